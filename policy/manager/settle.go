package manager

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/rego"
)

// How long an activation waits for the checks of changed repositories. At a start,
// repositories without earlier rules would be denied meanwhile.
const (
	checksWait      = time.Second
	checksStartWait = time.Minute
)

// settleEvery is the least time between two activations by outcomes of checks, and
// settleShare the part of the time that such activations may take (one in so many).
const (
	settleEvery = 100 * time.Millisecond
	settleShare = 10
)

// keepEvery is the least time between two writes of the last good policy while checks
// are under way.
const keepEvery = 10 * time.Second

// newChecks makes the checks of changed repositories. They leave one processor, where
// there are several, to the traffic.
func (p *Manager) newChecks() *Checks {
	return NewChecks(p.engine.Check, runtime.GOMAXPROCS(0)-1, p.log)
}

// settleBeforeActivation checks the changed repositories of a set before its activation, and returns
// the set with the outcomes. It waits for first attempts only, and at most for limit;
// later outcomes are settled later.
func (p *Manager) settleBeforeActivation(ctx context.Context, set *rego.Set, limit time.Duration) *rego.Set {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		p.checks.Follow(set)
		p.checks.Wait(ctx)
		settled, accepted := set.Settle(p.checks.Outcomes())
		if len(accepted) == 0 {
			return set
		}
		set = settled
	}
}

// startWait is how long a start waits for the checks of a set.
func startWait(set *rego.Set) time.Duration {
	for _, r := range set.Pending() {
		if r.Kept.Digest == "" {
			return checksStartWait
		}
	}
	return checksWait
}

// settle activates the outcomes of checks since the latest activation. It returns how long
// the next call should wait.
func (p *Manager) settle(ctx context.Context) (wait time.Duration) {
	p.refreshMu.Lock()
	defer p.refreshMu.Unlock()
	began := time.Now()
	set, accepted := p.lastGood.Settle(p.checks.Outcomes())
	defer func() { p.checks.Follow(p.lastGood) }()
	if len(accepted) == 0 || samePending(set, p.lastGood) && sameRejections(set, p.lastGood) {
		return 0
	}
	var passed []string
	for _, c := range accepted {
		if c.Failure == nil {
			passed = append(passed, c.Repository)
		}
	}
	p.recordChecked(ctx, set, passed)
	p.mu.Lock()
	decides := !p.expired
	p.mu.Unlock()
	p.lastGood = set
	p.activateRejections(set, time.Now())
	if decides {
		p.engine.Swap(set)
		if p.changed != nil {
			p.changed(set.Revision(), p.engine.Activation())
		}
	}
	p.recordRejections(ctx)
	if len(set.Pending()) == 0 || time.Since(p.savedAt) > keepEvery {
		p.keep(set)
	}
	return max(settleEvery, settleShare*time.Since(began))
}

// recordChecked records the repositories whose policy of the active revision comes into
// force later than the revision.
func (p *Manager) recordChecked(ctx context.Context, set *rego.Set, passed []string) {
	if len(passed) == 0 {
		return
	}
	revision := set.Revision()
	p.log.Info("policies of repositories checked and in force", "revision", revision.Digest, "commit", revision.Commit,
		"repositories", len(passed), "first", strings.Join(passed[:min(len(passed), maxRejectionNames)], " "), "pending", len(set.Pending()))
	attributes := []audit.Attribute{
		{Name: "source", Value: p.source.String()},
		{Name: "checked_repositories", Value: strconv.Itoa(len(passed))},
		{Name: "checked", Value: strings.Join(passed[:min(len(passed), maxRejectionNames)], " ")},
	}
	if at, again := p.history.activatedAt(revision.Digest); again {
		attributes = append(attributes, audit.Attribute{Name: "decided_before", Value: at.UTC().Format(time.RFC3339)})
	}
	attributes = append(attributes, pendingAttributes(set)...)
	attributes = append(attributes, rejectedAttributes(set)...)
	err := p.audit.Record(ctx, &audit.Event{Time: time.Now(), Kind: audit.KindPolicyLoaded, Revision: revision.Digest, Commit: revision.Commit, Attributes: attributes})
	if err != nil && !errors.Is(err, context.Canceled) {
		p.log.Error("activation of repositories' policies not recorded", "error", err)
	}
}

// Pending lists the repositories whose policy of the active revision is not checked yet.
func (p *Manager) Pending() []rego.Pending {
	if set := p.engine.Current(); set != nil {
		return set.Pending()
	}
	return nil
}

// settledWait is how long an operator's request waits for checks after the activation.
const settledWait = 5 * time.Second

// WaitSettled waits until no repository's policy is pending, for [settledWait] at most.
func (p *Manager) WaitSettled(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settledWait)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for len(p.Pending()) > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// recheck checks the rejected repositories again, at an operator's request.
func (p *Manager) recheck() {
	var names []string
	for _, r := range p.lastGood.Rejected() {
		names = append(names, r.Repository)
	}
	p.checks.Follow(p.lastGood, names...)
}
