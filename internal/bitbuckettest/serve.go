package bitbuckettest

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/http"
	"strconv"
)

// ServeHTTP answers one request: it is recorded, then hit by the injected fault
// that matches it, if any, and otherwise answered from the model.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.serveGit(w, r) {
		return
	}
	c := s.routeRequest(r)
	done := s.arrive(c, r)
	defer done()

	fault, released := s.hit(c.endpoint, r)
	if fault.Hang && !wait(r.Context(), released) {
		abort()
	}
	if fault.Reset {
		reset(w)
	}
	a := fault.replace(s, c)
	a.write(w, r, fault, released)
}

// replace returns the answer that the fault puts in place of the model's.
func (f Fault) replace(s *Server, c *call) answer {
	switch {
	case f.Redirect != "":
		status := f.Status
		if status == 0 {
			status = http.StatusFound
		}
		return answer{status: status, header: http.Header{"Location": {f.Redirect}}}
	case f.Status == http.StatusTooManyRequests:
		return failure(f.Status, "Rate limit for this resource has been exceeded")
	case f.Status == http.StatusBadGateway, f.Status == http.StatusServiceUnavailable, f.Status == http.StatusGatewayTimeout:
		return page(f.Status) // these come from what stands in front of the API
	case f.Status >= 400:
		return failure(f.Status, "%s", http.StatusText(f.Status))
	}
	a := s.answer(c)
	if f.Status != 0 {
		a.status = f.Status
	}
	return a
}

// write sends the answer with what the fault does to it.
func (a answer) write(w http.ResponseWriter, r *http.Request, f Fault, released <-chan struct{}) {
	body := a.encode()
	if f.Body != nil {
		body = f.Body
	}
	if f.Edit != nil {
		body = f.Edit(bytes.Clone(body))
	}
	if f.Padding > 0 {
		body = append(bytes.Clone(body), bytes.Repeat([]byte{' '}, f.Padding)...)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	maps.Copy(h, a.header)
	maps.Copy(h, f.Header)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	if !f.Truncate && !f.Stall {
		_, _ = w.Write(body) // a client that has gone is its own affair
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	if f.Truncate || !wait(r.Context(), released) {
		abort()
	}
	_, _ = w.Write(body[len(body)/2:])
}

// wait returns true when the fault has been cleared, and false when the client
// or the server has gone.
func wait(ctx context.Context, released <-chan struct{}) bool {
	select {
	case <-released:
		return true
	case <-ctx.Done():
		return false
	}
}

// abort ends the handler and its connection.
func abort() { panic(http.ErrAbortHandler) }

// reset ends the handler and resets its connection: with a linger of zero,
// close sends RST (tcp(7), SO_LINGER).
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		abort()
	}
	inner := conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		inner = t.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = inner.Close()
	abort()
}
