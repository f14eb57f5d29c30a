package manager

import (
	"context"

	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// resume is what decided last, as far as this start can use it: resumed spares it the
// checking of what has not changed since; recalled, where nothing is known of the
// files, has the rules of repositories that fail now. Either checks and tests a
// repository's policy before it decides. Both are nil where nothing was kept.
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
