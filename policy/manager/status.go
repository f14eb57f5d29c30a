package manager

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Since returns when the active revision became active, and whether a later state was
// rejected.
func (p *Manager) Since() (loaded time.Time, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loaded, p.failure != nil
}

// LastConfirmed returns when the source last offered the active revision.
func (p *Manager) LastConfirmed() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastConfirmed
}

// Failure returns why the latest state of the source is not active; nil if it is.
func (p *Manager) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// Ready is an error only if no revision is active. A rejected state is a detail: the last
// good revision stays in force.
func (p *Manager) Ready() error {
	if p.engine.Current() != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expired {
		return fmt.Errorf("no policy is active: the source last offered the last good one at %s, and policy.max_age is %v", p.lastConfirmed.UTC().Format(time.RFC3339), p.maxAge)
	}
	return errors.New("no policy is active")
}

// Detail is the part of /readyz about the policy.
func (p *Manager) Detail() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := map[string]string{
		"source": p.source.String(), "since": p.loaded.UTC().Format(time.RFC3339), "confirmed": p.lastConfirmed.UTC().Format(time.RFC3339),
	}
	if set := p.engine.Current(); set != nil {
		d["revision"] = set.Revision().Digest
		if commit := set.Revision().Commit; commit != "" {
			d["commit"] = commit
		}
		if refused := set.Refused(); len(refused) > 0 {
			// The first ones: the log has the error of each for its first request.
			d["refused_repositories"] = strings.Join(refused[:min(len(refused), 20)], " ")
		}
	}
	if pending := p.Pending(); len(pending) > 0 {
		d["pending_repositories"] = PendingNames(pending)
	}
	if p.failure != nil {
		d["last_reload_error"] = p.failure.Error()
		d["last_reload_error_kind"] = string(kindOf(p.failure))
	}
	return d
}

// RejectionCounts counts the rejected states, by kind.
func (p *Manager) RejectionCounts() map[RejectionKind]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.rejectionCounts)
}
