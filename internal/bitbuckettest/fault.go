package bitbuckettest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

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
