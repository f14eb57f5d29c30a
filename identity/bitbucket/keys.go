package bitbucket

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
)

const (
	// Fetches that tokens cause are bounded twice: by the floor, and beyond a
	// burst by one a minute, for Bitbucket answers 60 anonymous requests an hour.
	// A rotation is found within that minute even under a flood of forged tokens.
	fetchBurst = 12
	fetchPer   = time.Minute

	// unknownFor is how long a key that an issuer did not have is not asked for
	// again: less than the minute in which a rotation must be found.
	unknownFor    = 30 * time.Second
	maxUnknown    = 1024
	maxRetryAfter = 15 * time.Minute
)

// keySet holds the keys of one issuer. Reading is lock-free; a key that is not
// held is fetched at most as often as the bounds above allow, by one caller
// for all that wait. It is safe for concurrent use.
type keySet struct {
	http     *bitbucketapi.HTTP
	issuer   string
	config   *Config
	now      func() time.Time
	report   func(duration time.Duration, err error)
	skipped  func([]string) // reports keys that cannot be used
	reported []string       // the latest; touched by the one fetch that is under way
	spawn    func(func())   // runs a function that ends by itself, and is waited for at the end
	file     *keyFile       // nil: memory only
	state    atomic.Pointer[keyState]
	discover struct { // touched by the one fetch that is under way
		uri string
		at  time.Time
	}

	mu       sync.Mutex
	inflight *flight
	waiting  int
	last     time.Time // when the latest fetch began
	blocked  time.Time // until when the issuer asked us to stay away
	budget   bitbucketapi.Bucket
	failure  error // of the latest fetch
	unknown  map[string]time.Time
}

// keyState is one good answer of the issuer.
type keyState struct {
	keys     map[string]*key
	issuer   string
	skipped  []string // keys that cannot be used here, and why
	fetched  time.Time
	jwksURI  string
	fromDisk bool
}

// flight is a fetch under way.
type flight struct {
	done chan struct{}
	paid bool // out of the budget
	err  error
}

// current returns the keys, or nil when there are none or they are too old.
func (s *keySet) current(now time.Time) *keyState {
	st := s.state.Load()
	if st == nil || now.Sub(st.fetched) >= s.config.KeyMaxAge {
		return nil
	}
	return st
}

// trusts reports whether a key that was found before may still be used.
func (s *keySet) trusts(k *key, now time.Time) bool {
	return !k.withdrawn.Load() && s.current(now) != nil
}

// find returns the key of this id. An id that the issuer does not publish is
// CredentialKeyUnknown only on evidence that was asked for because of it, no more
// than half a minute ago. Where none can be had the answer is KeysUnavailable,
// which invites another try: also in the seconds after a fetch, for the key may
// have been published since.
func (s *keySet) find(ctx context.Context, id string, skip checkSet) (*key, *identity.Error) {
	if k := s.held(id); k != nil {
		return k, nil
	}
	if skip.has(checkKey) {
		for _, k := range s.state.Load().keys {
			return k, nil
		}
	}
	f, leader, refused := s.join(id)
	if refused != nil {
		return nil, refused
	}
	if leader {
		s.spawn(func() { s.fetch(ctx, f) })
	}
	if err := s.wait(ctx, f); err != nil {
		return nil, s.unavailable(err)
	}
	if k := s.held(id); k != nil {
		return k, nil
	}
	switch {
	case f.err != nil:
		return nil, s.unavailable(f.err)
	case !leader: // it was asked before this token came
		return nil, s.notYet()
	}
	s.mu.Lock()
	s.markUnknown(id)
	s.mu.Unlock()
	return nil, s.notPublished()
}

func (s *keySet) held(id string) *key {
	if st := s.current(s.now()); st != nil {
		return st.keys[id]
	}
	return nil
}

// join decides the effect on a caller that needs a key that is not held: it is refused,
// joins a fetch, or leads one.
func (s *keySet) join(id string) (f *flight, leader bool, refused *identity.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if st := s.current(now); st != nil && st.keys[id] == nil {
		if now.Before(s.unknown[id]) {
			return nil, false, s.notPublished()
		}
	}
	if s.inflight != nil {
		if s.waiting >= maxWaiting {
			return nil, false, s.unavailable(fmt.Errorf("%d callers wait already", s.waiting))
		}
		s.waiting++
		return s.inflight, false, nil
	}
	switch {
	case !s.last.IsZero() && now.Sub(s.last) < s.config.KeyFetchFloor:
		if s.failure == nil {
			return nil, false, s.notYet()
		}
		return nil, false, s.unavailable(s.failure)
	case now.Before(s.blocked):
		return nil, false, s.unavailable(s.failure)
	case !s.budget.Take(now, 1):
		return nil, false, s.unavailable(fmt.Errorf("its budget of fetches is used up for now"))
	}
	f = s.begin(now)
	f.paid = true
	s.waiting++
	return f, true, nil
}

// begin opens a flight; the caller holds mu and must see to the fetch.
func (s *keySet) begin(now time.Time) *flight {
	s.last = now
	s.inflight = &flight{done: make(chan struct{})}
	return s.inflight
}

// wait waits for a fetch, which bounds itself. The caller has been counted.
func (s *keySet) wait(ctx context.Context, f *flight) error {
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refresh fetches in the background or at the start, whatever the floor is,
// unless a fetch is under way: then it waits for that one.
func (s *keySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	f := s.inflight
	if f == nil {
		f = s.begin(s.now())
		s.mu.Unlock()
		s.fetch(ctx, f)
		return f.err
	}
	s.waiting++
	s.mu.Unlock()
	if err := s.wait(ctx, f); err != nil {
		return err
	}
	return f.err
}

// markUnknown remembers an id that the issuer does not have, in bounded memory.
// The caller holds mu.
func (s *keySet) markUnknown(id string) {
	if len(s.unknown) >= maxUnknown {
		s.unknown = nil // the floor still holds; forgetting costs one look-up each
	}
	if s.unknown == nil {
		s.unknown = map[string]time.Time{}
	}
	s.unknown[id] = s.now().Add(unknownFor)
}

func (s *keySet) notPublished() *identity.Error {
	return refuse(checkKey, identity.CredentialKeyUnknown,
		"the token is signed with a key that its issuer does not publish; it is forged, or its key has been withdrawn", nil)
}

// notYet is the answer where the keys were fetched so lately that they are not
// asked for again: that the key has been published since cannot be ruled out.
func (s *keySet) notYet() *identity.Error {
	return refuse(checkKey, identity.KeysUnavailable,
		"the token's issuer, asked a moment ago, did not publish the key that signed it; if it is new, try again in a few seconds", nil)
}

func (s *keySet) unavailable(err error) *identity.Error {
	return refuse(checkKey, identity.KeysUnavailable,
		"the keys of the token's issuer cannot be fetched at the moment, so the token cannot be judged; try again in a minute", err)
}
