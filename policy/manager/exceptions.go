package manager

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/rego"
)

// ExpiringExceptions returns the exceptions of the active policy that end within
// policy.exception_expiry_warning.
func (p *Manager) ExpiringExceptions(now time.Time) (ending []rego.Exception) {
	set := p.engine.Current()
	if set == nil {
		return nil
	}
	for _, e := range set.Exceptions() {
		if e.Until.After(now) && e.Until.Sub(now) <= p.expiryWarning {
			ending = append(ending, e)
		}
	}
	return ending
}

// recordExpiring records each exception that ends soon, once in this process. If
// recording fails, the next refresh tries again. The caller holds refreshMu.
func (p *Manager) recordExpiring(ctx context.Context) {
	now := time.Now()
	ending := p.ExpiringExceptions(now)
	still := make(map[string]bool, len(ending))
	for _, e := range ending {
		key := e.Key()
		if p.recordedExpiring[key] {
			still[key] = true
			continue
		}
		revision := p.lastGood.Revision()
		err := p.audit.Record(ctx, &audit.Event{
			Time: now, Kind: audit.KindExceptionExpiring, Revision: revision.Digest, Commit: revision.Commit, Repository: e.Repository,
			Message: "an exception ends at " + e.Until.UTC().Format(time.RFC3339),
			Attributes: []audit.Attribute{
				{Name: "path", Value: e.Path}, {Name: "owner", Value: e.Owner}, {Name: "ticket", Value: e.Ticket}, {Name: "until", Value: e.Until.UTC().Format(time.RFC3339)},
			},
		})
		if err != nil {
			p.log.Error("exception_expiring event not recorded", "error", err)
			continue
		}
		still[key] = true
		p.log.Warn("policy exception expires soon", "path", e.Path, "owner", e.Owner, "ticket", e.Ticket, "repository", e.Repository, "until", e.Until.UTC().Format(time.RFC3339))
	}
	p.recordedExpiring = still
}
