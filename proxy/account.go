package proxy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// account is what one step has sent and received through this instance, in all
// its tunnels and requests whose decision bounds that. Who opens a thousand
// tunnels would otherwise have a tunnel's limit a thousand times.
type account struct {
	sent, received atomic.Int64
	used           time.Time // when it was last asked for; the accounts' lock guards it
}

// accounts are the steps' by their UUID. Only a verified step whose rule says so
// has one.
type accounts struct {
	mu           sync.Mutex
	steps        map[fair.Subject]*account
	repositories map[fair.Subject]int // how many steps of each have one
	swept        time.Time
}

// The most accounts, of one repository and of all. A step over that is refused:
// whoever forgot another's account would give it its bytes again.
const (
	maxRepositoryAccounts = 25_000
	maxAccounts           = 100_000
)

// accountForgets is after how long an account is forgotten that nobody has asked
// for: no step of Bitbucket Pipelines runs so long, and what a tunnel holds it
// keeps.
const accountForgets = 24 * time.Hour

// of returns the step's account, nil where there are as many as may be.
func (s *accounts) of(p *identity.Principal, now time.Time) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= time.Hour {
		s.sweep(now)
	}
	if s.steps == nil {
		s.steps, s.repositories = make(map[fair.Subject]*account), make(map[fair.Subject]int)
	}
	key := subject(p)
	a := s.steps[key]
	if a == nil {
		repository := fair.Subject{Issuer: key.Issuer, Repository: key.Repository}
		if len(s.steps) >= maxAccounts || s.repositories[repository] >= maxRepositoryAccounts {
			return nil
		}
		a = &account{}
		s.steps[key] = a
		s.repositories[repository]++
	}
	a.used = now
	return a
}

// sweep forgets accounts that were not used for a day. The maps are made again: a
// map keeps its size.
func (s *accounts) sweep(now time.Time) {
	s.swept = now
	kept, repositories := make(map[fair.Subject]*account), make(map[fair.Subject]int)
	for key, a := range s.steps {
		if now.Sub(a.used) < accountForgets {
			kept[key] = a
			repositories[fair.Subject{Issuer: key.Issuer, Repository: key.Repository}]++
		}
	}
	s.steps, s.repositories = kept, repositories
}

// charge finds the step's account where the decision bounds it, and refuses a
// step that has nothing left.
func (p *passage) charge(ctx context.Context) *Refusal {
	limits := p.decision.Limits
	if limits.StepSent == 0 && limits.StepReceived == 0 {
		return nil
	}
	p.account = p.gate.accounts.of(p.principal, p.began)
	switch {
	case p.account == nil:
		return p.deny(ctx, refuse(policy.RepositoryLimit, "the bytes of as many steps as may be are counted already; steps are forgotten after a day"))
	case limits.StepSent > 0 && p.account.sent.Load() >= limits.StepSent:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has sent all of the %d bytes that its rule allows", limits.StepSent)))
	case limits.StepReceived > 0 && p.account.received.Load() >= limits.StepReceived:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has received all of the %d bytes that its rule allows", limits.StepReceived)))
	}
	return nil
}
