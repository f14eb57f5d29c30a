package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// goneInterval is how often a client whose request waits is checked.
const goneInterval = 250 * time.Millisecond

// acquire acquires a slot under the limits for this attempt's principal. An attempt
// over a rate waits for its turn while the client stays connected; an attempt over
// another limit is refused. Refusals are bounded too: see [evaluation.deny].
func (p *evaluation) acquire(ctx context.Context) *Refusal {
	who := subject(p.principal)
	slot, err := p.gate.requests.TryAcquire(who, p.attempt.HeaderBytes)
	if err != nil {
		slot, err = p.queue(ctx, who)
	}
	if err != nil {
		if over, ok := errors.AsType[*fair.OverError](err); ok {
			return p.deny(ctx, overLimit(over))
		}
		return p.countOnly(refuse(policy.StepLimit, "the request was given up while it waited for its turn"))
	}
	p.slot, p.acquired = slot, true
	return nil
}

// queue waits for a slot, and stops waiting when the client disconnects.
func (p *evaluation) queue(ctx context.Context, who fair.Subject) (fair.Slot, error) {
	defer p.stage("queue")()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if gone := p.attempt.Gone; gone != nil {
		defer watchClient(gone, cancel)()
	}
	return p.gate.requests.Acquire(ctx, who, p.attempt.HeaderBytes)
}

// watchClient calls cancel once the client is gone, until stop is called.
func watchClient(gone func() bool, cancel func()) (stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	var look func()
	look = func() {
		switch {
		case ctx.Err() != nil:
		case gone():
			cancel()
		default:
			time.AfterFunc(goneInterval, look)
		}
	}
	time.AfterFunc(goneInterval, look)
	return stop
}
