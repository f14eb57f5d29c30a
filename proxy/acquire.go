package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// clientCheckInterval is how often a client whose request waits is checked.
const clientCheckInterval = 250 * time.Millisecond

// acquire acquires a slot under the limits for this attempt's principal. An attempt
// over a rate waits for its turn while the client stays connected; an attempt over
// another limit is refused. Refusals are bounded too: see [evaluation.deny].
func (p *evaluation) acquire(ctx context.Context) *Refusal {
	requester := subject(p.principal)
	slot, err := p.gate.requests.TryAcquire(requester, p.attempt.HeaderBytes)
	if err != nil {
		slot, err = p.queue(ctx, requester)
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
func (p *evaluation) queue(ctx context.Context, requester fair.Subject) (fair.Slot, error) {
	defer p.stage("queue")()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if disconnected := p.attempt.Gone; disconnected != nil {
		defer watchClient(disconnected, cancel)()
	}
	return p.gate.requests.Acquire(ctx, requester, p.attempt.HeaderBytes)
}

// watchClient calls cancel once the client has disconnected, until stop is called.
func watchClient(disconnected func() bool, cancel func()) (stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	var check func()
	check = func() {
		switch {
		case ctx.Err() != nil:
		case disconnected():
			cancel()
		default:
			time.AfterFunc(clientCheckInterval, check)
		}
	}
	time.AfterFunc(clientCheckInterval, check)
	return stop
}
