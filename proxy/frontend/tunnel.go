package frontend

import (
	"bytes"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// becomeTunnel starts the tunnel, to whose goroutine the connection belongs from then on.
// The caller sets the admission, the connection to the target and what belongs to them in
// h.
func (c *conn) becomeTunnel(h *handover) {
	// What came with the CONNECT belongs to the tunnel.
	h.early = bytes.Clone(c.buf.b[c.buf.start:c.buf.end])
	if len(h.early) == 0 {
		h.early = nil
	}
	c.release()
	if !h.upgraded {
		h.admission.ReleaseHeader() // a tunnel that a request has become keeps the path
	}
	// From here on the tracker closes the connection, and not Shutdown.
	c.server.forget(c)
	h.listener, h.raw, h.client = c.listener, c.raw, c.stream
	c.server.tunneling.start(c.server.tunnel, h)
}

// tunnel runs a tunnel. It has a goroutine of its own, so that the deep stack of the
// decision is not kept for hours under an idle tunnel.
func (s *Server) tunnel(h *handover) {
	handed := false
	defer func() {
		if !handed {
			s.open.Add(-1)
			s.routines.Done()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(h.listener.Name, p)
			_ = h.client.Close()
			_ = h.upstream.Close()
			h.admission.Close(proxy.Outcome{Cause: proxy.CauseInternal})
		}
	}()
	if h.upgraded {
		s.config.Tracker.RunUpgraded(h.admission, h.client, h.early, h.upstream)
		return
	}
	// A tunnel that relays bytes never contains requests: its credential is not kept.
	begun := func() { h.inside = nil }
	if _, request := s.config.Tracker.RunConnect(h.admission, h.client, h.early, h.upstream, begun); request != nil && h.inside != nil {
		handed = s.serveInside(h, request)
	}
}

// serveInside serves the requests that a client sends instead of TLS; the first one
// begins with the bytes in request. It reports whether the connection became a tunnel
// again, by an Upgrade; otherwise the connection is closed.
func (s *Server) serveInside(h *handover, request []byte) (handed bool) {
	c := &conn{server: s, listener: h.listener, raw: h.raw, stream: h.client, client: h.inside.client, peer: h.inside.peer, inside: h.inside}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = c.stream.Close()
		return false
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(h.listener.Name, p)
			handed = false
		}
		c.release()
		if !handed {
			_ = c.stream.Close()
			s.forget(c)
		}
	}()
	if c.setReadDeadline(time.Now().Add(s.config.HeadTimeout)) != nil {
		return false
	}
	c.buf = s.buffers.Get().(*buffer)
	if len(c.buf.b) < len(request) {
		c.buf.b = make([]byte, len(request))
	}
	c.buf.start, c.buf.end = 0, copy(c.buf.b, request)
	tunnel := c.serveRequests()
	if tunnel == nil {
		return false
	}
	c.becomeTunnel(tunnel)
	return true
}
