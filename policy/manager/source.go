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

// Polling takes at most one part in twenty of the time, and this does not delay the next
// poll by more than half a minute.
const (
	pollShare       = 20
	pollMaxInterval = 30 * time.Second
)

// nextPoll is the time until the next poll, after one that took so long.
func nextPoll(poll, duration time.Duration) time.Duration {
	return max(poll, min(pollShare*duration, pollMaxInterval))
}

// newSource returns the configured source and its poll interval.
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

// directoryPoll is the interval between two reads of a policy directory.
const directoryPoll = 5 * time.Second
