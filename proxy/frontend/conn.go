package frontend

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/eviction"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/proxy"
)

// firstBuffer is the initial size of a buffer, enough for a head with a typical token. A
// buffer grows up to Config.MaxHeadBytes.
const firstBuffer = 4 << 10

// keptBuffer is the size of the largest buffer that is reused. A larger one is freed after
// the response to its head, since most heads are small.
const keptBuffer = 16 << 10

// buffer is the state for reading requests. A connection releases its buffer before it
// becomes a tunnel.
type buffer struct {
	b          []byte
	start, end int // b[start:end] was read from the connection and not used yet
	head       head
}

// conn is a client's connection until it is closed or becomes a tunnel.
type conn struct {
	server    *Server
	listener  *ListenerConfig
	raw       proxy.Stream // below TLS
	stream    proxy.Stream
	client    netip.AddrPort
	peer      netip.Addr // the proxy that forwarded the client's connection, by the PROXY protocol
	buf       *buffer
	headBytes fair.Slot // of a long head whose step is not known yet
	minor     int       // the HTTP/1 minor version of the current request
	requests  int       // requests answered so far
	switched  *switched
	inside    *inside // the tunnel that the requests are in; nil: none
	idle      eviction.Entry
	evicted   atomic.Bool // by the server's limiter of idle connections
	state     atomic.Int32
	cut       atomic.Bool // no body is read from now on
	connects  bool        // a CONNECT has no response so far
	drain     time.Time   // deadline while an unread body is drained
}

// The states of conn.state: Shutdown closes only an idle connection, and only once.
const (
	stateBusy int32 = iota
	stateIdle
	stateEnded
)

func (c *conn) closeIfIdle() {
	if c.state.CompareAndSwap(stateIdle, stateEnded) {
		_ = c.stream.Close()
	}
}

// release releases the buffer and the bytes of a long head.
func (c *conn) release() {
	c.headBytes.Release()
	if c.buf == nil {
		return
	}
	c.buf.start, c.buf.end = 0, 0
	c.buf.head.reset()
	if len(c.buf.b) <= keptBuffer {
		c.server.buffers.Put(c.buf)
	}
	c.buf = nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// switched is set after a 101 response was sent: the connection then becomes a tunnel.
type switched struct {
	admission *proxy.Admission
	upstream  proxy.Stream
}

// Evict sets conn.evicted and wakes the goroutine of the connection.
func (c *conn) Evict() {
	c.evicted.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// setReadDeadline sets the deadline of the next read. If the connection was evicted, the
// deadline is in the past. evicted is read after the deadline is set, so that a concurrent
// Evict is never lost.
func (c *conn) setReadDeadline(t time.Time) error {
	err := c.stream.SetReadDeadline(t)
	if c.evicted.Load() {
		err = c.stream.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// handover is a connection that has become a tunnel.
type handover struct {
	admission *proxy.Admission
	listener  *ListenerConfig
	raw       proxy.Stream
	client    proxy.Stream
	early     []byte // what the client has sent already
	upstream  proxy.Stream
	inside    *inside // for requests that come instead of TLS; nil: none may come
	upgraded  bool    // the connection comes from a request that has become a tunnel
}
