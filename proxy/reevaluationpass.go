package proxy

import (
	"errors"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// pass is one reevaluation of all open tunnels and requests, with its outcome.
type pass struct {
	began time.Time

	mu       sync.Mutex
	open     int // tunnels and requests
	sum      itemOutcome
	reported int // of the closed ones, in an earlier event
}

// itemOutcome is the outcome of evaluations.
type itemOutcome struct {
	evaluated, closed, wouldDeny, failed int
	revision                             policy.Revision
	failure                              error // the first
}

func (o *itemOutcome) add(more itemOutcome) {
	o.evaluated += more.evaluated
	o.closed += more.closed
	o.wouldDeny += more.wouldDeny
	o.failed += more.failed
	if more.evaluated > 0 {
		o.revision = more.revision
	}
	if o.failure == nil && more.failed > 0 {
		o.failure = more.failure
	}
}

func (p *pass) count(o itemOutcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum.add(o)
}

// absorb adds a later pass, whose items replace what this one still had to evaluate:
// everything undecided is among them.
func (p *pass) absorb(later *pass) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = max(p.open, later.open)
	p.sum.failed, p.sum.failure = 0, nil
	p.sum.add(later.sum)
	p.reported += later.reported
}

// fitDecision returns an error if the result of a decider is not a decision.
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
