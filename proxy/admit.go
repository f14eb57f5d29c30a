package proxy

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Admit admits or refuses one attempt. Exactly one of the results is not nil. When Admit
// returns an admission, its decision is durable, and no connection to the target has been
// opened. The caller must end the admission with [Admission.Close]. Admit is safe for
// concurrent use.
//
// A refusal is recorded before Admit returns, even if ctx ends.
func (g *Gate) Admit(ctx context.Context, attempt Attempt) (*Admission, *Refusal) {
	if g.config.Guard == nil {
		// The zero Gate has no Decider.
		return nil, refuse(policy.InternalError, "this gate was not set up")
	}
	now := g.config.Now()
	p := &evaluation{gate: g, attempt: attempt, began: now, started: now.UTC().Truncate(time.Microsecond)}
	if g.closed.Load() {
		return nil, p.countOnly(refuse(policy.ShuttingDown, "this instance is shutting down"))
	}
	if g.stopped.Load() {
		return nil, p.refuseStopped(ctx)
	}
	defer func() { p.slot.Release() }() // a no-op after the slot moved to the admission
	for _, step := range [...]func(context.Context) *Refusal{
		p.authenticate, p.decide, p.checkQuota, p.resolve, p.allow,
	} {
		if refusal := step(ctx); refusal != nil {
			return nil, refusal
		}
	}
	if attempt.Action != policy.Connect {
		p.slot.Settle() // see [Admission.Settle]
	}
	a := p.admission()
	a.slot, p.slot = p.slot, fair.Slot{}
	return a, nil
}

// admission returns the admission of an allowed attempt. The admission omits the
// credential: it lives as long as its tunnel, and no later component needs the credential.
func (p *evaluation) admission() *Admission {
	a := &Admission{
		ID:        p.id,
		Principal: p.principal,
		Decision:  p.decision,
		Target:    p.target,
		Path:      p.path,
		Addresses: p.pinned,
		Admitted:  p.started,
		gate:      p.gate,
		began:     p.began,
		action:    p.attempt.Action,
		client:    p.attempt.Client.Addr().Unmap(),
		from:      p.attempt.Client,
		peer:      p.attempt.Peer,
		listener:  p.attempt.Listener,
		http:      p.attempt.HTTP,
		upstream:  p.upstream,
		active:    activationOf(&p.decision),
	}
	a.setQuota(p.quota)
	return a
}
