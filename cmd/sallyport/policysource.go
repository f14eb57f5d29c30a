package main

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/source"
)

// policyDirectory is a source without a history.
type policyDirectory struct{ folder *source.Folder }

func (d policyDirectory) String() string { return "directory " + d.folder.Path() }

// Offer reads the directory.
func (d policyDirectory) Offer(ctx context.Context, _ policy.Revision) (*policy.Snapshot, error) {
	return d.folder.Read(ctx)
}

// Looking at a source takes at most one part in twenty of the time, and the next
// look is never further off than half a minute for that.
const (
	lookingShare = 20
	lookingMost  = 30 * time.Second
)

// untilNextLook is how long to wait after a look that took so long.
func untilNextLook(poll, took time.Duration) time.Duration {
	return max(poll, min(lookingShare*took, lookingMost))
}

// newPolicySource is the source that is configured, and how often to check it.
func newPolicySource(cfg *config.Config) (policySource, time.Duration, error) {
	if cfg.Policy.Git == nil {
		return policyDirectory{source.NewFolder(cfg.Policy.Directory)}, directoryPoll, nil
	}
	c, err := components.GitConfig(cfg, "git")
	if err != nil {
		return nil, 0, err
	}
	g, err := source.NewGit(c)
	if err != nil {
		return nil, 0, err
	}
	return g, cfg.Policy.Git.PollInterval, nil
}
