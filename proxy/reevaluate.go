package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

// OrganizationDecider evaluates the organization's half of the policy alone.
//
// final reports whether the decision holds whatever the repository's rules are. A
// decision that is not final must not be used. The rest is as with [Decider].
type OrganizationDecider interface {
	DecideOrganization(ctx context.Context, request *policy.Request) (d policy.Decision, final bool, err error)
}

// Reevaluator evaluates a changed policy for every open tunnel, every upgraded
// connection, and every request under way. It closes those that the policy no longer
// allows, with [CausePolicyChanged].
//
// The organization's half is evaluated first, for all of them, and closes those that
// it denies. The rest waits in one queue per repository, so that slow rules of a
// repository delay that repository's tunnels only. If the evaluation fails, the
// tunnel stays open; the failure is recorded, and the evaluation repeated. Its methods are safe
// for concurrent use.
type Reevaluator struct {
	config ReevaluatorConfig
	queue  *fairQueue
	retry  *time.Timer // of evaluations that failed

	mu       sync.Mutex
	status   ReevaluationStatus
	recorded string // the revision whose evaluation errors are recorded
}

// ReevaluatorConfig configures a [Reevaluator]. Tracker, Decider and Recorder are
// required.
type ReevaluatorConfig struct {
	Tracker  *Tracker
	Decider  Decider
	Recorder Recorder
	// Organization is evaluated before Decider. nil: everything waits in its
	// repository's queue.
	Organization OrganizationDecider
	Log          *slog.Logger // nil: none
	// Workers is the number of concurrent evaluations of the organization's half. 0: half
	// of the processors, and at least one, so that new decisions have the rest.
	Workers int
	// Repositories is the number of repositories whose rules are evaluated at once, one
	// evaluation of each. Each evaluation may wait long for a worker process. 0: 64.
	Repositories int
	// Retry is the time until a failed evaluation is repeated. 0: 10 s.
	Retry time.Duration
	Now   func() time.Time // nil: time.Now
}

// ReevaluationStatus sums up the reevaluations so far.
type ReevaluationStatus struct {
	Evaluated int64         // evaluations, in all
	Closed    int64         // tunnels and requests that were closed, in all
	Errors    int           // tunnels and requests that stay open because the active policy could not be evaluated for them
	Pending   int           // evaluations that wait for their repository's turn
	Duration  time.Duration // duration of the latest complete reevaluation
}

// NewReevaluator returns a reevaluator. Nothing happens before [Reevaluator.Run].
func NewReevaluator(c ReevaluatorConfig) *Reevaluator {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Workers = cmp.Or(c.Workers, max(1, runtime.GOMAXPROCS(0)/2))
	c.Repositories = cmp.Or(c.Repositories, 64)
	c.Retry = cmp.Or(c.Retry, 10*time.Second)
	r := &Reevaluator{config: c, queue: newFairQueue(), retry: time.AfterFunc(time.Hour, c.Tracker.wake)}
	r.retry.Stop()
	return r
}

// Changed sets the active revision and the number of its activation, as in decisions.
// It does not block. Tunnels that an earlier revision admitted and that begin later
// are evaluated as well.
func (r *Reevaluator) Changed(revision policy.Revision, number uint64) {
	t := r.config.Tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active = activation{revision.Digest, number}
	t.wake()
}

// Status returns a copy of the present status.
func (r *Reevaluator) Status() ReevaluationStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Pending = r.queue.len()
	return s
}

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

// question is all that a decision depends on, except the time. The principal is that
// of the admission: names are not looked up again.
type question struct {
	principal *identity.Principal
	action    policy.Action
	target    destination.Target
	http      *policy.HTTPRequest // its own for each request, nil for a tunnel
	client    netip.Addr
}

// request returns the policy request for the question at a time.
func (q *question) request(now time.Time) *policy.Request {
	return &policy.Request{Principal: q.principal, Action: q.action, Target: q.target, HTTP: q.http, ClientAddress: q.client, Time: now}
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
