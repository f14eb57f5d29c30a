package bitbuckettest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
)

// Fault says what goes wrong with a request. Its parts combine; the zero value
// changes nothing. The functions of this file make the usual ones.
type Fault struct {
	Match func(*http.Request) bool // nil: every request of the endpoint
	After int                      // so many matching requests pass first
	Times int                      // so many are hit, and the rest pass; 0: all

	Hang  bool // nothing is sent until the fault is cleared; then the answer is, unless the client has gone
	Reset bool // the connection is reset without an answer

	Status   int         // instead of the true answer, with Bitbucket's error body
	Redirect string      // 302 (or Status) with this Location
	Header   http.Header // added to the answer

	Body     []byte              // instead of the answer's body
	Edit     func([]byte) []byte // changes the answer's body
	Padding  int                 // so many spaces after the body: too long, and valid JSON still
	Truncate bool                // the announced length, half the body, and the connection closed
	Stall    bool                // half the body, and the rest when the fault is cleared
}

// RateLimited answers 429 as Bitbucket does, after so many requests have passed.
func RateLimited(after int) Fault {
	return Fault{Status: http.StatusTooManyRequests, After: after}
}

// Failing answers with this status, such as 500 or 503.
func Failing(status int) Fault { return Fault{Status: status} }

// Hanging holds requests until it is cleared.
func Hanging() Fault { return Fault{Hang: true} }

// Resetting resets the connection.
func Resetting() Fault { return Fault{Reset: true} }

// Redirecting sends the client to another URL.
func Redirecting(to string) Fault { return Fault{Redirect: to} }

// Truncated breaks the connection in the middle of the body.
func Truncated() Fault { return Fault{Truncate: true} }

// Oversized makes the body longer by so many bytes, without making it wrong.
func Oversized(bytes int) Fault { return Fault{Padding: bytes} }

// Replaced answers with this body and status 200.
func Replaced(body string) Fault { return Fault{Body: []byte(body)} }

// Injection is a fault in force.
type Injection struct {
	server   *Server
	endpoint Endpoint
	fault    Fault
	released chan struct{}

	matched, hits int  // the server's mu guards them
	cleared       bool // and this
}

// Inject puts a fault on these endpoints until it is cleared. Of several that
// match a request the latest alone hits it.
func (s *Server) Inject(e Endpoint, f Fault) *Injection {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := &Injection{server: s, endpoint: e, fault: f, released: make(chan struct{})}
	s.injections = append(s.injections, i)
	return i
}

// Clear ends the fault and releases the requests that it holds. It may be
// called twice.
func (i *Injection) Clear() {
	s := i.server
	s.mu.Lock()
	defer s.mu.Unlock()
	i.clear()
	s.injections = slices.DeleteFunc(s.injections, func(o *Injection) bool { return o == i })
}

func (i *Injection) clear() {
	if !i.cleared {
		i.cleared = true
		close(i.released)
	}
}

// Hits returns how many requests the fault has hit.
func (i *Injection) Hits() int {
	i.server.mu.Lock()
	defer i.server.mu.Unlock()
	return i.hits
}

// Wait returns when Hits is n or more. It fails when ctx ends first.
func (i *Injection) Wait(ctx context.Context, n int) error {
	if err := i.server.await(ctx, func() bool { return i.hits >= n }); err != nil {
		return fmt.Errorf("bitbuckettest: wait for %d hits of a fault: have %d: %w", n, i.Hits(), err)
	}
	return nil
}

// ClearFaults clears every fault.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.injections {
		i.clear()
	}
	s.injections = nil
}

// hit returns the fault for a request, which may be the zero one, and what ends
// its holding.
func (s *Server) hit(e Endpoint, r *http.Request) (Fault, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range slices.Backward(s.injections) {
		if i.endpoint&e == 0 || i.fault.Match != nil && !i.fault.Match(r) {
			continue
		}
		i.matched++
		if i.matched <= i.fault.After || i.fault.Times > 0 && i.hits >= i.fault.Times {
			continue
		}
		i.hits++
		s.journal.notify()
		return i.fault, i.released
	}
	return Fault{}, nil
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
