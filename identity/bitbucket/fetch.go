package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
)

// discoveryFor is how long a discovery document is used while its keys can be fetched.
const discoveryFor = 6 * time.Hour

// fetch fetches the issuer's keys for a flight that the caller opened, and ends
// it. The client that caused it may hang up: others wait for the same answer.
func (s *keySet) fetch(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.FetchTimeout)
	defer cancel()
	begun := s.now()
	st, err := s.request(ctx)
	duration := s.now().Sub(begun)

	s.mu.Lock()
	f.err, s.failure, s.inflight = err, err, nil
	if err == nil {
		s.replace(st)
		s.blocked = time.Time{}
	}
	if answer, ok := errors.AsType[*bitbucketapi.StatusError](err); ok && answer.RetryAfter > 0 {
		s.blocked = s.now().Add(min(answer.RetryAfter, maxRetryAfter))
	} else if err != nil && !ok && f.paid {
		s.budget.Put() // it never reached the issuer, whose patience the budget guards
	}
	s.mu.Unlock()
	if err == nil && len(st.skipped) > 0 && !slices.Equal(st.skipped, s.reported) {
		s.skipped(st.skipped)
	}
	if err == nil {
		s.reported = st.skipped
	}
	s.report(duration, err)
	close(f.done)

	if err == nil && s.file != nil { // no caller waits for the disk
		s.file.save(s.state.Load)
	}
}

// request fetches the discovery document and the keys. It is called by one goroutine at a time.
func (s *keySet) request(ctx context.Context) (*keyState, error) {
	now := s.now()
	if s.discover.uri == "" || now.Sub(s.discover.at) > discoveryFor {
		body, err := s.http.Get(ctx, s.issuer+"/.well-known/openid-configuration", "")
		if err != nil {
			return nil, fmt.Errorf("fetch discovery document: %w", err)
		}
		uri, err := parseDiscovery(body, s.issuer)
		if err != nil {
			return nil, err
		}
		s.discover.uri, s.discover.at = uri, now
	}
	uri := s.discover.uri
	body, err := s.http.Get(ctx, uri, "")
	var keys map[string]*key
	var skipped []string
	if err == nil {
		keys, skipped, err = parseKeys(body)
	}
	if err != nil {
		s.discover.uri = "" // it may have moved
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	// The evidence is as old as the question, not as the answer.
	return &keyState{issuer: s.issuer, keys: keys, skipped: skipped, fetched: now, jwksURI: uri}, nil
}

// replace puts new keys in place of the old. A key that is published unchanged
// stays the same key; one that is not is withdrawn, and with it every token
// that was verified by it. The caller holds mu.
func (s *keySet) replace(st *keyState) {
	if old := s.state.Load(); old != nil {
		for id, k := range old.keys {
			if n := st.keys[id]; n != nil && n.same(k) {
				st.keys[id] = k
			} else {
				k.withdrawn.Store(true)
				if st.keys[id] == nil {
					s.markUnknown(id) // not new, but gone: no need to ask again
				}
			}
		}
	}
	for id := range st.keys {
		delete(s.unknown, id)
	}
	s.state.Store(st)
}

// run keeps the keys fresh until ctx ends.
func (s *keySet) run(ctx context.Context) {
	failures := 0
	timer := time.NewTimer(s.untilNext(0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := s.refresh(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		timer.Reset(s.untilNext(failures))
	}
}

// untilNext returns how long to wait before the next background fetch: a while
// after a good one, with doubling pauses after bad ones.
func (s *keySet) untilNext(failures int) time.Duration {
	now := s.now()
	if failures > 0 {
		s.mu.Lock()
		blocked := s.blocked.Sub(now)
		s.mu.Unlock()
		return max(blocked, jitter(min(s.config.KeyRefresh, s.config.KeyFetchFloor<<min(failures-1, 5))))
	}
	st := s.state.Load()
	if st == nil || st.fromDisk {
		return 0
	}
	return max(0, st.fetched.Add(jitter(s.config.KeyRefresh)).Sub(now))
}

// jitter shortens a duration by up to a tenth, so that instances and issuers do
// not ask in step.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/10+1))
}
