package manager

import (
	"context"

	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// resume loads the last good policy. resumed spares this start the checks of unchanged
// policies; recalled, if the findings cannot be used, has the rules of repositories whose
// policy fails now. Both check and test a repository's policy before it decides. Both are
// nil without a policy on the disk.
func (p *Manager) resume(ctx context.Context, kept *source.KeptPolicy) (resumed, recalled *rego.Set) {
	if kept == nil {
		return nil, nil
	}
	if kept.RepositoriesError != nil {
		p.log.Error("rules that repositories keep cannot be read; these repositories are denied until their folders are repaired", "error", kept.RepositoriesError)
	}
	options := p.options
	options.Kept = kept.Repositories
	if kept.Findings != nil {
		set, err := rego.Resume(ctx, kept.Snapshot, kept.Findings, options)
		if err == nil {
			return set, nil
		}
		p.log.Info("findings of the previous process cannot be used; the whole policy is checked", "error", err)
	}
	set, err := rego.Recall(ctx, kept.Snapshot, options)
	if err != nil {
		p.log.Error("the last good policy does not load", "error", err)
		return nil, nil
	}
	return nil, set
}
