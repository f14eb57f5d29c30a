package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"

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
	// Completed is called with the duration of each complete reevaluation of all open
	// tunnels and requests. It must not block. nil: nothing is called.
	Completed func(duration time.Duration)
	Log       *slog.Logger // nil: none
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
	Evaluated int64 // evaluations, in all
	Closed    int64 // tunnels and requests that were closed, in all
	Errors    int   // tunnels and requests that stay open because the active policy could not be evaluated for them
	Pending   int   // evaluations that wait for their repository's turn
	Completed int64 // complete reevaluations, in all
}

// NewReevaluator returns a reevaluator. Nothing happens before [Reevaluator.Run].
func NewReevaluator(c ReevaluatorConfig) *Reevaluator {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Completed == nil {
		c.Completed = func(time.Duration) {}
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
