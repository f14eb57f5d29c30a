package rego

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// ErrNoPolicy is the error of a decision while no policy is active.
var ErrNoPolicy = errors.New("policy: no policy is loaded")

// Engine decides by the set that is active when the request arrives. The zero Engine has
// none and denies everything. Safe for concurrent use.
type Engine struct {
	current  atomic.Pointer[active]
	recent   recentInputs
	swapping sync.Mutex

	// CacheBytes bounds the decisions that are kept for reuse; 0: none are. It is set before
	// the first set.
	CacheBytes int64
	counts     cacheCounts

	// Observe is called with each decision of a set before it is returned; nil: not. It
	// must return at once, and is set before the first decision.
	Observe func(policy.Decision)
	// ObserveDelivery is the same for decisions about webhook deliveries, with their error.
	ObserveDelivery func(webhook.Decision, error)
}

// active is the active set, and the number of its activation.
type active struct {
	set        *Set
	activation uint64
	cache      *decisionCache // nil: decisions are not kept
}

func (e *Engine) load() (set *Set, activation uint64) {
	if a := e.current.Load(); a != nil {
		return a.set, a.activation
	}
	return nil, 0
}

// Decide evaluates the current set; see [Set.Decide].
func (e *Engine) Decide(ctx context.Context, request *policy.Request) (policy.Decision, error) {
	a := e.current.Load()
	if a == nil || a.set == nil {
		return denied(nil), ErrNoPolicy
	}
	var d policy.Decision
	var err error
	if a.cache != nil {
		d, err = a.cache.decide(ctx, request)
	} else {
		d, err = a.set.Decide(ctx, request)
	}
	d.Activation = a.activation
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
	set, activation := e.load()
	if set == nil {
		return denied(nil), false, ErrNoPolicy
	}
	d, final, err = set.DecideOrganization(ctx, request)
	d.Activation = activation
	return d, final, err
}

// HasWebhookRules reports whether the active set has rules about webhook deliveries; see
// [Set.HasWebhookRules].
func (e *Engine) HasWebhookRules() bool {
	set := e.Current()
	return set != nil && set.HasWebhookRules()
}

// DecideDelivery evaluates the current set; see [Set.DecideDelivery]. The error is
// [ErrNoPolicy] if no policy is active, and [webhook.ErrNoRules] if the active one has no
// rules about deliveries. The caller then decides by the configuration, or denies.
func (e *Engine) DecideDelivery(ctx context.Context, delivery *webhook.Delivery) (webhook.Decision, error) {
	set := e.Current()
	if set == nil {
		return webhook.Decision{Reason: policy.PolicyError}, ErrNoPolicy
	}
	d, err := set.DecideDelivery(ctx, delivery)
	if err == nil {
		e.recent.noteDelivery(delivery, d.Input)
	}
	if e.ObserveDelivery != nil {
		e.ObserveDelivery(d, err)
	}
	return d, err
}

// Swap makes a set the active one and returns the previous one, nil if there was none.
// Decisions that have begun continue with the previous set.
func (e *Engine) Swap(set *Set) (previous *Set) {
	e.swapping.Lock()
	defer e.swapping.Unlock()
	previous, number := e.load()
	e.current.Store(&active{set, number + 1, newDecisionCache(set, e.CacheBytes, &e.counts)})
	return previous
}

// Current returns the active set, nil if there is none.
func (e *Engine) Current() *Set {
	set, _ := e.load()
	return set
}

// Activation is the number of the latest activation, 0 before the first.
func (e *Engine) Activation() uint64 {
	_, number := e.load()
	return number
}
