package rego

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// ErrNoPolicy says that nothing can be decided because no policy was loaded.
var ErrNoPolicy = errors.New("policy: no policy is loaded")

// Engine decides by the set that is current when it is asked, from beginning to
// end. The zero Engine has none and denies everything. Safe for concurrent use.
type Engine struct {
	current  atomic.Pointer[Set]
	recent   recentInputs
	swapping sync.Mutex

	// Observe is told of every decision of a set, after it was made and before it
	// is returned; nil: nobody. It must return at once, and is set before the first
	// decision.
	Observe func(policy.Decision)
}

// Decide evaluates the current set; see [Set.Decide].
func (e *Engine) Decide(ctx context.Context, request *policy.Request) (policy.Decision, error) {
	set := e.current.Load()
	if set == nil {
		return denied(nil), ErrNoPolicy
	}
	d, err := set.Decide(ctx, request)
	if err == nil {
		e.recent.note(request, d.Input)
	}
	if e.Observe != nil {
		e.Observe(d)
	}
	return d, err
}

// DecideOrganization evaluates the organization's half of the current set; see
// [Set.DecideOrganization].
func (e *Engine) DecideOrganization(ctx context.Context, request *policy.Request) (d policy.Decision, final bool, err error) {
	set := e.current.Load()
	if set == nil {
		return denied(nil), false, ErrNoPolicy
	}
	return set.DecideOrganization(ctx, request)
}

// swapTime bounds the compiling of [Engine.Swap].
const swapTime = time.Second

// Swap makes a set the current one and returns the one before, nil if there was
// none. Before that it compiles, in the new set, the policies of the repositories
// that were asked about lately, for a second at most, so that few wait for it
// afterwards; meanwhile the old set decides, and decisions that it has begun it also
// ends.
func (e *Engine) Swap(set *Set) (previous *Set) {
	e.swapping.Lock()
	defer e.swapping.Unlock()
	previous = e.current.Load()
	if previous != nil && set != nil {
		until := time.Now().Add(swapTime)
		// What Prepare has compiled is not compiled again.
		for _, repository := range previous.recent() {
			if time.Now().After(until) {
				break
			}
			// An error comes up again when the repository asks.
			_, _ = set.program(repository)
		}
	}
	e.current.Store(set)
	return previous
}

// Current returns the set that decides now, nil if there is none.
func (e *Engine) Current() *Set { return e.current.Load() }
