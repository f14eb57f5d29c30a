package bitbuckettest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// journalLength bounds what a long-lived demo keeps of its requests.
const journalLength = 10_000

func (j *journal) notify() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// arrive records a request before anything else is done with it; the result
// records that it has been answered.
func (s *Server) arrive(c *call, r *http.Request) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &s.journal
	j.requests = append(j.requests, Request{
		Endpoint: c.endpoint, Method: r.Method, URI: r.RequestURI,
		Authorization: r.Header.Get("Authorization"), Time: s.now(),
	})
	if len(j.requests) > journalLength {
		j.requests = slices.Clone(j.requests[journalLength/10:])
	}
	for i := range j.counts {
		if c.endpoint&(1<<i) != 0 {
			j.counts[i]++
		}
	}
	j.active++
	j.notify()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		j.active--
		j.notify()
	}
}

// Requests returns the requests of these endpoints in the order in which they
// arrived; of very many the latest.
func (s *Server) Requests(e Endpoint) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rs []Request
	for _, r := range s.journal.requests {
		if r.Endpoint&e != 0 {
			rs = append(rs, r)
		}
	}
	return rs
}

// Count returns how many requests of these endpoints have arrived, those that a
// fault hit included.
func (s *Server) Count(e Endpoint) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(e)
}

func (s *Server) count(e Endpoint) int {
	n := 0
	for i, c := range s.journal.counts {
		if e&(1<<i) != 0 {
			n += c
		}
	}
	return n
}

// Wait returns when Count(e) is n or more. It fails when ctx ends first.
func (s *Server) Wait(ctx context.Context, e Endpoint, n int) error {
	if err := s.await(ctx, func() bool { return s.count(e) >= n }); err != nil {
		return fmt.Errorf("bitbuckettest: wait for %d requests of %v: have %d: %w", n, e, s.Count(e), err)
	}
	return nil
}

// waitIdle returns when no request is being answered.
func (s *Server) waitIdle() {
	_ = s.await(context.Background(), func() bool { return s.journal.active == 0 })
}

// await returns when the condition, which is asked with mu held after every
// change, is true.
func (s *Server) await(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := condition(), s.journal.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
