package frontend

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/proxy"
)

// firstBuffer holds a head with a usual token in it. It grows up to
// Config.MaxHeadBytes.
const firstBuffer = 4 << 10

// keptBuffer is the largest buffer that is kept for another request. A larger one
// is freed as soon as its head is answered: most heads are small.
const keptBuffer = 16 << 10

// buffer is what a connection needs to read requests, and releases before it becomes a
// tunnel.
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
	minor     int       // the HTTP/1 minor version of the request that is being answered
	requests  int       // answered so far
	switched  *switched
	inside    *inside // the tunnel that the requests are in; nil: none
	idle      idleEntry
	evicted   atomic.Bool // by the idleLimiter
	state     atomic.Int32
	cut       atomic.Bool // no body is read from now on
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

// switched is a response of 101 that was sent: the connection becomes a tunnel.
type switched struct {
	admission *proxy.Admission
	upstream  proxy.Stream
}

// evict wakes the goroutine of the connection, which finds [conn.evicted] set.
func (c *conn) evict() {
	c.evicted.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// waitUntil sets the deadline of the next read, unless the connection was evicted: of
// two concurrent calls of waitUntil and evict, one sees the effect of the other.
func (c *conn) waitUntil(t time.Time) error {
	err := c.stream.SetReadDeadline(t)
	if c.evicted.Load() {
		err = c.stream.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}
