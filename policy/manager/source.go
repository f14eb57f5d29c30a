package manager

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/source"
)

// folderSource is a source without a history.
type folderSource struct{ folder *source.Folder }

func (d folderSource) String() string { return "directory " + d.folder.Path() }

// Offer reads the directory.
func (d folderSource) Offer(ctx context.Context, _ policy.Revision) (*policy.Snapshot, error) {
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

// newSource is the source that is configured, and how often to check it.
func newSource(cfg *config.Config, git GitConfig) (Source, time.Duration, error) {
	if cfg.Policy.Git == nil {
		return folderSource{source.NewFolder(cfg.Policy.Directory)}, directoryPoll, nil
	}
	c, err := git(cfg, "git")
	if err != nil {
		return nil, 0, err
	}
	g, err := source.NewGit(c)
	if err != nil {
		return nil, 0, err
	}
	return g, cfg.Policy.Git.PollInterval, nil
}

// directoryPoll is how often the policy directory is compared with what decides.
const directoryPoll = 5 * time.Second
