package proxy

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/target"
	"github.com/sallyport/sallyport/policy"
)

// Redecider puts what is open to the policy again when the policy has changed:
// every tunnel, every connection that a request has become, and every request
// under way. What is no longer allowed is closed with [CausePolicyChanged]. What
// the policy cannot be evaluated for stays open, is told of, and is put to it
// again. Its methods are safe for concurrent use.
type Redecider struct {
	config RedeciderConfig

	mu     sync.Mutex
	status Redecided
	told   string // the revision whose failures are on record
}

// RedeciderConfig is what a redecider is made of. Tracker, Decider and Recorder
// are required.
type RedeciderConfig struct {
	Tracker  *Tracker
	Decider  Decider
	Recorder Recorder
	Log      *slog.Logger // nil: none
	// Workers is how many questions are put at once. 0: half of the processors,
	// and at least one, so that new decisions have the rest.
	Workers int
	// Retry is how long it waits before it asks again for what could not be
	// decided. 0: 10 s.
	Retry time.Duration
	Now   func() time.Time // nil: time.Now
}

// Redecided is what has come of the changes of policy so far.
type Redecided struct {
	Asked     int64         // questions that were put, in all
	Closed    int64         // tunnels and requests that were closed, in all
	Undecided int           // that are open although the policy that decides could not be evaluated for them
	Took      time.Duration // the latest time through everything that was open
}

// NewRedecider returns a redecider. Nothing happens before [Redecider.Run].
func NewRedecider(c RedeciderConfig) *Redecider {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Workers = cmp.Or(c.Workers, max(1, runtime.GOMAXPROCS(0)/2))
	c.Retry = cmp.Or(c.Retry, 10*time.Second)
	return &Redecider{config: c}
}

// Changed says that this revision decides from now on. It does not block. What
// is admitted by another one and begins only now is put to it as well: there is
// no gap between the change and what was on its way through the gate.
func (r *Redecider) Changed(revision policy.Revision) {
	t := r.config.Tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revision = revision.Digest
	t.wake()
}

// Status says what has come of it.
func (r *Redecider) Status() Redecided {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Run works until ctx ends.
func (r *Redecider) Run(ctx context.Context) {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.config.Tracker.stale:
		case <-retry.C:
		}
		if r.pass(ctx) > 0 {
			retry.Reset(r.config.Retry)
		}
	}
}

// question is all that a decision depends on but the time. The principal is the
// admission's own: names that have changed since are not looked up again.
type question struct {
	principal *identity.Principal
	action    policy.Action
	target    target.Target
	http      *policy.HTTPRequest // its own for each request, nil for a tunnel
	client    netip.Addr
}

// tally is what one time through has come to.
type tally struct {
	mu                                  sync.Mutex
	asked, closed, wouldDeny, undecided int
	revision                            policy.Revision
	failure                             error // the first
}

// pass puts everything that was not judged by the current revision to it, each
// question once for all that share it, and returns for how many there was no answer.
func (r *Redecider) pass(ctx context.Context) (undecided int) {
	began := time.Now()
	open := r.config.Tracker.unjudged()
	groups := make(map[question][]judgeable, len(open))
	for _, o := range open {
		a := o.admission
		q := question{a.Principal, a.action, a.Target, a.http, a.client}
		groups[q] = append(groups[q], o)
	}
	var sum tally
	questions := make(chan question)
	var workers sync.WaitGroup
	for range min(r.config.Workers, len(groups)) {
		workers.Go(func() {
			for q := range questions {
				r.put(ctx, q, groups[q], &sum)
				// Whoever waits for a decision of its own goes first.
				runtime.Gosched()
			}
		})
	}
	for q := range groups {
		if ctx.Err() != nil {
			break
		}
		questions <- q
	}
	close(questions)
	workers.Wait()
	if ctx.Err() == nil {
		r.tell(ctx, len(open), &sum, time.Since(began))
	}
	return sum.undecided
}

// put asks one question, and does what the answer says with all that it is about.
func (r *Redecider) put(ctx context.Context, q question, open []judgeable, sum *tally) {
	now := r.config.Now().UTC().Truncate(time.Microsecond)
	d, err := r.config.Decider.Decide(ctx, &policy.Request{
		Principal: q.principal, Action: q.action, Target: q.target, HTTP: q.http, ClientAddress: q.client, Time: now,
	})
	err = fitDecision(d, err, now)
	closed := 0
	if err == nil {
		// In pieces, so that what begins meanwhile does not wait for all of them.
		for some := range slices.Chunk(open, 256) {
			closed += r.config.Tracker.judge(some, d)
		}
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.asked++
	sum.closed += closed
	sum.revision = d.Revision
	switch {
	case err != nil:
		sum.undecided += len(open)
		if sum.failure == nil {
			sum.failure = err
		}
	case d.Verdict == policy.Allow && d.WouldDeny:
		sum.wouldDeny += len(open)
	}
}

// fitDecision is an error where what a decider returned is no decision.
func fitDecision(d policy.Decision, err error, now time.Time) error {
	switch {
	case err != nil:
		return err
	case d.Verdict == policy.Allow && !d.Expires.IsZero() && !now.Before(d.Expires):
		return errors.New("policy allowed what had expired")
	case d.Verdict == policy.Allow:
		return nil
	}
	switch d.Reason {
	case policy.PolicyDenied, policy.NoRuleMatched, "":
		return nil
	}
	return errors.New("policy came to no decision: " + string(d.Reason))
}

// tell says what has come of it: always in the log, and in an event where
// something was closed or could not be decided.
func (r *Redecider) tell(ctx context.Context, open int, sum *tally, took time.Duration) {
	r.mu.Lock()
	r.status.Asked += int64(sum.asked)
	r.status.Closed += int64(sum.closed)
	r.status.Undecided, r.status.Took = sum.undecided, took
	news := sum.closed > 0 || sum.undecided > 0 && r.told != sum.revision.Digest
	if sum.undecided > 0 {
		r.told = sum.revision.Digest
	}
	r.mu.Unlock()
	if open == 0 {
		return
	}
	log := r.config.Log.With("revision", sum.revision.Digest, "open", open, "questions", sum.asked, "closed", sum.closed,
		"would_deny", sum.wouldDeny, "undecided", sum.undecided, "took", took)
	if sum.undecided > 0 {
		log.ErrorContext(ctx, "policy could not be evaluated for what is open, which stays open", "error", sum.failure)
	} else {
		log.InfoContext(ctx, "policy has changed, and what is open was put to it")
	}
	if !news {
		return
	}
	e := &audit.Event{
		Time: r.config.Now().UTC().Truncate(time.Microsecond), Kind: audit.KindPolicyReevaluated,
		Revision: sum.revision.Digest, Commit: sum.revision.Commit,
		Attributes: []audit.Attribute{
			{Name: "open", Value: strconv.Itoa(open)},
			{Name: "closed", Value: strconv.Itoa(sum.closed)},
			{Name: "would_deny", Value: strconv.Itoa(sum.wouldDeny)},
			{Name: "undecided", Value: strconv.Itoa(sum.undecided)},
		},
	}
	if sum.failure != nil {
		e.Reason, e.Message = string(policy.PolicyError), sum.failure.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := r.config.Recorder.Record(ctx, e); err != nil {
		r.config.Log.ErrorContext(ctx, "not recorded what a change of policy did to what is open", "error", err)
	}
}
