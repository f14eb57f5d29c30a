package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// byteQuota counts the bytes that one step has sent and received through this
// instance, in all its tunnels and requests whose decision limits them. Otherwise a
// step could multiply the limit of a tunnel by opening many tunnels.
type byteQuota struct {
	sent, received atomic.Int64
	used           time.Time // when it was last requested; guarded by byteQuotas.mu
}

// byteQuotas holds the quotas by step UUID. Only a verified step whose rule has a
// limit per step has one.
type byteQuotas struct {
	mu           sync.Mutex
	steps        map[fair.Subject]*byteQuota
	repositories map[fair.Subject]int // how many steps of each have one
	swept        time.Time
}

// The limits on quotas, per repository and in total. A step over a limit is refused:
// evicting the quota of another step would give that step its bytes again.
const (
	maxRepositoryQuotas = 25_000
	maxQuotas           = 100_000
)

// quotaMaxIdle is how long an unused quota is kept. No step of Bitbucket Pipelines
// runs that long, and an open tunnel keeps a reference to its quota.
const quotaMaxIdle = 24 * time.Hour

// forPrincipal returns the step's quota, or nil at the limit on quotas.
func (s *byteQuotas) forPrincipal(p *identity.Principal, now time.Time) *byteQuota {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= time.Hour {
		s.sweep(now)
	}
	if s.steps == nil {
		s.steps, s.repositories = make(map[fair.Subject]*byteQuota), make(map[fair.Subject]int)
	}
	key := subject(p)
	a := s.steps[key]
	if a == nil {
		repository := fair.Subject{Issuer: key.Issuer, Repository: key.Repository}
		if len(s.steps) >= maxQuotas || s.repositories[repository] >= maxRepositoryQuotas {
			return nil
		}
		a = &byteQuota{}
		s.steps[key] = a
		s.repositories[repository]++
	}
	a.used = now
	return a
}

// sweep removes quotas that were not used for a day. The maps are rebuilt, because a
// map does not shrink.
func (s *byteQuotas) sweep(now time.Time) {
	s.swept = now
	kept, repositories := make(map[fair.Subject]*byteQuota), make(map[fair.Subject]int)
	for key, a := range s.steps {
		if now.Sub(a.used) < quotaMaxIdle {
			kept[key] = a
			repositories[fair.Subject{Issuer: key.Issuer, Repository: key.Repository}]++
		}
	}
	s.steps, s.repositories = kept, repositories
}
