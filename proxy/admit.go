package proxy

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Admit admits or refuses one attempt. Exactly one of the results is not nil. An
// admission must be ended by [Admission.Close]. When Admit returns one, the decision
// behind it is durable, and no connection to the target has been opened. Admit is safe
// for concurrent use.
//
// A refusal is recorded before Admit returns, also if ctx ends.
func (g *Gate) Admit(ctx context.Context, attempt Attempt) (*Admission, *Refusal) {
	if g.config.Guard == nil {
		// The zero gate has nothing to decide with.
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
	defer func() { p.slot.Release() }() // unless the admission has it
	for _, step := range [...]func(context.Context) *Refusal{
		p.authenticate, p.decide, p.checkQuota, p.resolve, p.allow,
	} {
		if refusal := step(ctx); refusal != nil {
			return nil, refusal
		}
	}
	a := p.admission()
	a.slot, p.slot = p.slot, fair.Slot{}
	return a, nil
}

// admission returns the admission. It does not contain the credential: an admission lives
// as long as its tunnel, and nothing behind the gate needs the credential.
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
		http:      p.attempt.HTTP,
		upstream:  p.upstream,
		active:    activationOf(&p.decision),
	}
	a.setQuota(p.quota)
	return a
}
