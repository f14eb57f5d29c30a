package frontend

import (
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// refuseHere answers with a refusal that did not come from the gate.
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

func (c *conn) answerTo(server string, minor int, head bool) answerTo {
	return answerTo{server: server, minor: minor, head: head, secure: c.listener.TLS != nil}
}

// linger ends our side and then reads what the client still sends, without
// checking it. A close with unread bytes would send a reset, and a reset
// destroys an answer that the client has not read yet (RFC 9112 section 9.6).
func (c *conn) linger() {
	if c.stream.CloseWrite() == nil {
		c.discard(c.server.config.LingerTimeout)
	}
}

// discard reads and drops what the client sends, until the client is done or the time is
// over. Meanwhile the connection counts as idle: a client that is refused a thousand
// times a second cannot hold a thousand connections.
func (c *conn) discard(timeout time.Duration) {
	c.server.idle.Add(host(c.client.Addr()), &c.idle, c)
	defer c.server.idle.Remove(&c.idle)
	if c.setReadDeadline(time.Now().Add(timeout)) != nil {
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

// maxDiscard bounds what is read and discarded before and after a refusal.
const maxDiscard = 256 << 10

// rejectEvicted answers a connection that was evicted before its first head arrived.
// It does not linger: there are too many connections already.
func (c *conn) rejectEvicted() {
	if c.requests > 0 && c.buf.start == c.buf.end {
		return // a kept connection may end at any time (RFC 9112 section 9.5)
	}
	if c.server.isClosing() {
		c.evicted.Store(false) // it lingers: the rest of the head may be on its way
		c.minor = 1
		c.refuseHere(proxy.NewRefusal(policy.ShuttingDown, "this instance is shutting down"))
		return
	}
	c.server.config.Observer.Refused(c.listener.Name, policy.Overloaded)
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.RefusalTimeout)) != nil {
		return
	}
	r := proxy.NewRefusal(policy.Overloaded, "too many connections are idle, and this one has been idle longest")
	_, _ = c.stream.Write(appendRefusal(nil, r, c.answerTo(c.server.config.Name, 1, false)))
}
