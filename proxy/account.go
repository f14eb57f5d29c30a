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
	mu    sync.Mutex
	steps map[fair.Subject]*account
	swept time.Time
}

// accountForgets is after how long an account is forgotten that nobody has asked
// for: no step of Bitbucket Pipelines runs so long, and what a tunnel holds it
// keeps.
const accountForgets = 24 * time.Hour

func (s *accounts) of(p *identity.Principal, now time.Time) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) >= time.Hour {
		s.swept = now
		for p, a := range s.steps {
			if now.Sub(a.used) >= accountForgets {
				delete(s.steps, p)
			}
		}
	}
	if s.steps == nil {
		s.steps = make(map[fair.Subject]*account)
	}
	key := subject(p)
	a := s.steps[key]
	if a == nil {
		a = &account{}
		s.steps[key] = a
	}
	a.used = now
	return a
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
	case limits.StepSent > 0 && p.account.sent.Load() >= limits.StepSent:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has sent all of the %d bytes that its rule allows", limits.StepSent)))
	case limits.StepReceived > 0 && p.account.received.Load() >= limits.StepReceived:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has received all of the %d bytes that its rule allows", limits.StepReceived)))
	}
	return nil
}
