package frontend

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// firstBuffer holds a head with a usual token in it. It grows up to
// Config.MaxHeadBytes.
const firstBuffer = 4 << 10

// keptBuffer is the largest buffer that is kept for another request. A larger one
// is freed as soon as its head is answered: most heads are small.
const keptBuffer = 16 << 10

// buffer is what a connection needs while it reads requests, and gives back
// before it becomes a tunnel.
type buffer struct {
	b          []byte
	start, end int // b[start:end] was read off the connection and not used yet
	head       head
}

// conn is a client's connection until it is closed or becomes a tunnel.
type conn struct {
	server    *Server
	listener  *ListenerConfig
	raw       proxy.Stream // below TLS
	stream    proxy.Stream
	client    netip.AddrPort
	peer      netip.Addr // who passed the client's connection on, by the PROXY protocol
	buf       *buffer
	headBytes fair.Slot // of a long head whose step is not known yet
	minor     int       // the HTTP/1 minor version of the request that is being answered
	requests  int       // answered so far
	switched  *switched
	inside    *inside     // the tunnel that the requests are in; nil: none
	idleEntry *idleEntry  // guarded by idleLimiter.mu
	evicted   atomic.Bool // by the idleLimiter
	state     atomic.Int32
	cut       atomic.Bool // nothing of a body is read any more
	drain     time.Time   // while an unwanted body is read: until when
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

// serve reads and answers requests. It reports whether the connection was handed
// on to a tunnel; otherwise the caller closes it.
func (c *conn) serve() (handed bool) {
	if len(c.listener.ProxyProtocolFrom) > 0 && !c.proxied() {
		return false
	}
	c.server.idle.add(c)
	defer c.server.idle.remove(c)
	if c.listener.TLS != nil && !c.handshake() {
		return false
	}
	if c.waitUntil(time.Now().Add(c.server.config.HeadTimeout)) != nil {
		return false
	}
	c.buf = c.server.buffers.Get().(*buffer)
	return c.serveRequests()
}

// serveRequests reads and answers requests until the connection ends or is handed
// on, which it reports. c.buf is set.
func (c *conn) serveRequests() (handed bool) {
	for {
		raw, refusal, err := c.readHead()
		if raw == nil && c.evicted.Load() {
			c.rejectEvicted()
			return false
		}
		if err != nil {
			return false
		}
		c.server.idle.remove(c)
		c.evicted.Store(false) // it was there in time after all
		h := &c.buf.head
		if refusal == nil {
			refusal = h.parse(raw)
			c.minor = h.minor
		}
		if refusal != nil {
			c.refuseHere(refusal)
			return false
		}
		if string(h.method) == "CONNECT" && c.inside == nil {
			return c.connect(h)
		}
		if !c.request(h) {
			return c.switched != nil && c.handOver()
		}
		c.requests++
		if !c.await() {
			return false
		}
	}
}

// await waits for the first byte of a next request, and reports whether it came.
func (c *conn) await() bool {
	config := &c.server.config
	c.server.idle.add(c)
	if c.buf.start == c.buf.end {
		c.headBytes.Release()
		if len(c.buf.b) > firstBuffer { // an idle connection has no use for it
			c.buf.head.reset()
			c.buf = &buffer{b: make([]byte, firstBuffer)}
		}
		if c.waitUntil(time.Now().Add(config.IdleTimeout)) != nil || !c.state.CompareAndSwap(stateBusy, stateIdle) {
			return false
		}
		// Shutdown checks the state after it has said that it is closing, so one
		// of the two sees the other.
		if c.server.isClosing() {
			return false
		}
		err := c.fill(config.MaxHeadBytes)
		if !c.state.CompareAndSwap(stateIdle, stateBusy) || err != nil {
			return false
		}
	}
	return c.waitUntil(time.Now().Add(config.HeadTimeout)) == nil
}

var errBufferFull = errors.New("the buffer is full")

// fill reads once from the connection, behind what is in the buffer, which may
// grow to limit bytes.
func (c *conn) fill(limit int) error {
	b := c.buf
	if b.start == b.end {
		b.start, b.end = 0, 0
	}
	if b.end == len(b.b) && b.start > 0 {
		b.end = copy(b.b, b.b[b.start:b.end])
		b.start = 0
	}
	if b.end == len(b.b) {
		size, err := c.growHead(limit)
		if err != nil {
			return err
		}
		grown := make([]byte, size)
		copy(grown, b.b[:b.end])
		b.b = grown
	}
	n, err := c.stream.Read(b.b[b.end:])
	b.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// refuseHere answers with a refusal that the gate knows nothing of.
func (c *conn) refuseHere(r *proxy.Refusal) {
	c.server.config.Observer.Refused(c.listener.Name, r.Reason)
	c.server.config.Log.Debug("request refused", "listener", c.listener.Name, "client_address", c.client.Addr(),
		"reason", string(r.Reason), "detail", r.Detail)
	c.answer(r)
}

// answer writes a refusal and lingers until the client has read it. The
// connection cannot be used after it.
func (c *conn) answer(r *proxy.Refusal) { c.answerAs(r, c.server.config.Name) }

func (c *conn) answerAs(r *proxy.Refusal, name string) {
	head := c.buf != nil && string(c.buf.head.method) == "HEAD"
	if r.Throttled {
		c.discard(c.server.config.ThrottleDelay)
	}
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.RefusalTimeout)) != nil {
		return
	}
	if _, err := c.stream.Write(appendRefusal(nil, r, c.answerTo(name, c.minor, head))); err != nil {
		return
	}
	c.linger()
}

// linger ends our side and then reads what the client still sends, without
// checking it. A close with unread bytes would send a reset, and a reset
// destroys an answer that the client has not read yet (RFC 9112 section 9.6).
func (c *conn) linger() {
	if c.stream.CloseWrite() == nil {
		c.discard(c.server.config.LingerTimeout)
	}
}

// maxDiscard bounds what is read and thrown away before and behind a refusal.
const maxDiscard = 256 << 10

// discard reads and drops what the client sends, until the client is done or so
// much time is over. Meanwhile the connection counts as one without a request:
// whoever is refused a thousand times a second cannot hold a thousand connections
// by it.
func (c *conn) discard(timeout time.Duration) {
	c.server.idle.add(c)
	defer c.server.idle.remove(c)
	if c.waitUntil(time.Now().Add(timeout)) != nil {
		return
	}
	var scratch []byte
	if c.buf != nil && len(c.buf.b) > keptBuffer {
		c.release()
	}
	if c.buf != nil {
		c.buf.start, c.buf.end = 0, 0
		scratch = c.buf.b
	} else {
		scratch = make([]byte, 512)
	}
	for total := 0; total < maxDiscard; {
		n, err := c.stream.Read(scratch)
		if err != nil {
			return
		}
		total += n
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func malformed(detail string) *proxy.Refusal {
	return proxy.NewRefusal(policy.RequestInvalid, detail)
}
