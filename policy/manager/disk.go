package manager

import (
	"errors"
	"io/fs"
	"time"

	"github.com/sallyport/sallyport/internal/age"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// keep writes the active policy to the disk, for a start without the source. A failure
// does not affect decisions.
func (p *Manager) keep(set *rego.Set) {
	p.confirmedOnDisk = time.Now()
	p.savedAt = p.confirmedOnDisk
	err := p.kept.Save(source.KeptPolicy{Snapshot: set.Snapshot(), Origin: p.source.String(), Confirmed: p.confirmedOnDisk, Findings: set.Findings(), Repositories: set.Kept()})
	if err != nil {
		p.log.Error("write active policy to disk failed", "error", err)
	}
}

// loadLastGood returns the policy on the disk, nil if it cannot be used.
func (p *Manager) loadLastGood() *source.KeptPolicy {
	kept, err := p.kept.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		p.log.Error("read last good policy from disk failed", "error", err)
		return nil
	case kept.Origin != p.source.String():
		p.log.Info("last good policy on disk is from another source; ignored", "source", kept.Origin)
		return nil
	case p.maxAge > 0 && age.Exceeds(kept.Confirmed, time.Now(), p.maxAge):
		p.log.Warn("last good policy on disk exceeds policy.max_age", "confirmed", kept.Confirmed.UTC().Format(time.RFC3339), "max_age", p.maxAge.String())
		return nil
	}
	return kept
}
