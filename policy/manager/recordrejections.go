package manager

import (
	"context"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/rego"
)

// onRepositoryFailure is the configured effect of a repository whose policy fails.
func onRepositoryFailure(cfg *config.Config) rego.RepositoryFailure {
	if cfg.Policy.RepositoryFailure == config.RepositoryDeny {
		return rego.DenyRepository
	}
	return rego.KeepPrevious
}

// activateRejections adds the rejections of a set that becomes active.
func (p *Manager) activateRejections(set *rego.Set, now time.Time) {
	news, recovered := p.rejections.Activate(set.Rejected(), now)
	p.unrecorded = append(p.unrecorded, news...)
	for _, r := range news {
		p.log.Error("policy of a repository rejected", "revision", set.Revision().Digest, "commit", set.Revision().Commit,
			"repository", r.Repository, "kind", KindOf(&r), "in_force", InForce(&r), "error", r.Failure)
	}
	for _, name := range recovered {
		p.log.Info("policy of a repository is in force again", "revision", set.Revision().Digest, "repository", name)
	}
}

// recordRejections records the new rejections, after the activation: a failing repository
// does not delay it.
func (p *Manager) recordRejections(ctx context.Context) {
	if len(p.unrecorded) == 0 {
		return
	}
	revision := p.lastGood.Revision()
	more := append([]audit.Attribute{{Name: "source", Value: p.source.String()}}, p.provenance(ctx, revision.Commit)...)
	for i := range p.unrecorded[:min(len(p.unrecorded), maxRejectionEvents)] {
		e := Event(&p.unrecorded[i], revision, p.options.Names, time.Now(), slices.Clone(more))
		if err := p.audit.Record(ctx, e); err != nil {
			p.log.Error("rejection of a repository's policy not recorded", "repository", p.unrecorded[i].Repository, "error", err)
		}
	}
	p.unrecorded = nil
}

// dropUnknown denies the repositories that keep rules of a revision that this log does not
// hold, at a start with another database: their decisions could not be evaluated again. No
// set is active yet.
func (p *Manager) dropUnknown(ctx context.Context) error {
	digests := map[string]bool{}
	for _, r := range p.lastGood.Rejected() {
		digests[r.Kept.Digest] = true
	}
	for _, r := range p.lastGood.Pending() {
		digests[r.Kept.Digest] = true
	}
	delete(digests, "")
	for digest := range digests {
		known, err := p.audit.HasPolicy(ctx, digest)
		if err != nil {
			return err
		}
		if !known {
			p.log.Error("the log does not hold the revision whose rules repositories keep; these repositories are denied until their folders are repaired", "revision", digest)
			p.lastGood.DropKept(digest)
			p.unrecorded = slices.DeleteFunc(p.unrecorded, func(r rego.Rejection) bool { return r.Kept.Digest == digest })
		}
	}
	p.activateRejections(p.lastGood, time.Now())
	return nil
}
