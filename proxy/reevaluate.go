package proxy

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Run works until ctx ends.
func (r *Reevaluator) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer r.retry.Stop()
	defer r.queue.close()
	for range r.config.Repositories {
		workers.Go(func() {
			for item, ok := r.queue.wait(); ok; item, ok = r.queue.wait() {
				r.evaluate(ctx, item)
				// New decisions go first.
				runtime.Gosched()
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.config.Tracker.stale:
			r.begin(ctx)
		}
	}
}

// begin evaluates the organization's half for everything that the active revision
// was not applied to, and queues the rest, which replaces what is queued. It does not
// wait for a repository's rules.
func (r *Reevaluator) begin(ctx context.Context) {
	open := r.config.Tracker.outdated()
	groups := make(map[question][]admitted, len(open))
	for _, o := range open {
		a := o.admission
		q := question{a.Principal, a.action, a.Target, a.http, a.client}
		groups[q] = append(groups[q], o)
	}
	p := &pass{began: time.Now(), open: len(open)}
	items := make([]*queueItem, 0, len(groups))
	for q, open := range groups {
		items = append(items, &queueItem{question: q, open: open, pass: p})
	}
	if r.config.Organization != nil {
		items = r.organizationFirst(ctx, items)
	}
	if ctx.Err() != nil {
		return
	}
	if len(items) > 0 && p.sum.closed > 0 {
		r.report(ctx, p, len(items)) // no repository's rules delay the report
	}
	if p, done := r.queue.replace(p, items); done {
		r.finish(ctx, p)
	}
}

// organizationFirst evaluates the organization's half for each item, applies what is
// final, and returns the items that need their repository's rules.
func (r *Reevaluator) organizationFirst(ctx context.Context, items []*queueItem) (rest []*queueItem) {
	var mu sync.Mutex
	work := make(chan *queueItem)
	var workers sync.WaitGroup
	for range min(r.config.Workers, len(items)) {
		workers.Go(func() {
			for item := range work {
				if !r.evaluateOrganization(ctx, item) {
					mu.Lock()
					rest = append(rest, item)
					mu.Unlock()
				}
				runtime.Gosched()
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		work <- item
	}
	close(work)
	workers.Wait()
	return rest
}

// evaluateOrganization reports whether the item is settled by the organization's half.
func (r *Reevaluator) evaluateOrganization(ctx context.Context, item *queueItem) (settled bool) {
	if r.config.Tracker.screened(item.open) {
		return false
	}
	now := r.config.Now().UTC().Truncate(time.Microsecond)
	d, final, err := r.config.Organization.DecideOrganization(ctx, item.question.request(now))
	if err == nil && !final {
		r.config.Tracker.screen(item.open, activationOf(&d))
		return false
	}
	item.pass.count(r.apply(item, d, fitDecision(d, err, now)))
	return true
}

// evaluate evaluates the whole policy for an item of the queue.
func (r *Reevaluator) evaluate(ctx context.Context, item *queueItem) {
	began := time.Now()
	now := r.config.Now().UTC().Truncate(time.Microsecond)
	d, err := r.config.Decider.Decide(ctx, item.question.request(now))
	o := r.apply(item, d, fitDecision(d, err, now))
	switch r.queue.done(item, time.Since(began), o) {
	case passEnds:
		r.finish(ctx, item.pass)
	case passEnded:
		r.report(ctx, item.pass, 0)
	}
}

// apply applies a decision to all tunnels and requests of an item, and returns the
// outcome.
func (r *Reevaluator) apply(item *queueItem, d policy.Decision, err error) itemOutcome {
	o := itemOutcome{evaluated: 1, revision: d.Revision, failure: err}
	switch {
	case err != nil:
		o.failed = len(item.open)
	default:
		// In chunks, so that new tunnels do not wait for the tracker's lock.
		for some := range slices.Chunk(item.open, 256) {
			o.closed += r.config.Tracker.apply(some, d)
		}
		if d.Verdict == policy.Allow && d.WouldDeny {
			o.wouldDeny = len(item.open)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Evaluated++
	r.status.Closed += int64(o.closed)
	return o
}
