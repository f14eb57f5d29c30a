package frontend

import "time"

// serve reads and answers requests. It returns the tunnel that the connection is to
// become; nil: the caller closes the connection.
func (c *conn) serve() *handover {
	if len(c.listener.ProxyProtocolFrom) > 0 && !c.proxied() {
		return nil
	}
	c.server.idle.Add(host(c.client.Addr()), &c.idle, c)
	defer c.server.idle.Remove(&c.idle)
	if c.listener.TLS != nil && !c.handshake() {
		return nil
	}
	if c.setReadDeadline(time.Now().Add(c.server.config.HeadTimeout)) != nil {
		return nil
	}
	c.buf = c.server.buffers.Get().(*buffer)
	return c.serveRequests()
}

// serveRequests reads and answers requests until the connection ends or is to become
// a tunnel, which it returns. c.buf is set.
func (c *conn) serveRequests() *handover {
	for {
		raw, refusal, err := c.readHead()
		if raw == nil && c.evicted.Load() {
			c.rejectEvicted()
			return nil
		}
		if err != nil {
			return nil
		}
		c.server.idle.Remove(&c.idle)
		c.evicted.Store(false) // it was there in time after all
		h := &c.buf.head
		if refusal == nil {
			refusal = h.parse(raw)
			c.minor = h.minor
		}
		if refusal != nil {
			c.refuseHere(refusal)
			return nil
		}
		if string(h.method) == "CONNECT" && c.inside == nil {
			return c.connect(h)
		}
		if !c.request(h) {
			return c.switchedTunnel()
		}
		c.requests++
		if !c.await() {
			return nil
		}
	}
}

// await waits for the first byte of a next request, and reports whether it came.
func (c *conn) await() bool {
	config := &c.server.config
	c.server.idle.Add(host(c.client.Addr()), &c.idle, c)
	if c.buf.start == c.buf.end {
		c.headBytes.Release()
		if len(c.buf.b) > firstBuffer { // an idle connection has no use for it
			c.buf.head.reset()
			c.buf = &buffer{b: make([]byte, firstBuffer)}
		}
		if c.setReadDeadline(time.Now().Add(config.IdleTimeout)) != nil || !c.state.CompareAndSwap(stateBusy, stateIdle) {
			return false
		}
		// Shutdown checks the state after it has set closing, so one of the two sees the
		// other.
		if c.server.isClosing() {
			return false
		}
		err := c.fill(config.MaxHeadBytes)
		if !c.state.CompareAndSwap(stateIdle, stateBusy) || err != nil {
			return false
		}
	}
	return c.setReadDeadline(time.Now().Add(config.HeadTimeout)) == nil
}
