package main

import (
	"context"
	"path/filepath"
	"time"

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

// newPolicySource is the source that is configured, and how often to look at it.
func newPolicySource(cfg *config.Config) (policySource, time.Duration, error) {
	if cfg.Policy.Git == nil {
		return policyDirectory{source.NewFolder(cfg.Policy.Directory)}, directoryPoll, nil
	}
	c, err := gitConfig(cfg, "git")
	if err != nil {
		return nil, 0, err
	}
	g, err := source.NewGit(c)
	if err != nil {
		return nil, 0, err
	}
	return g, cfg.Policy.Git.PollInterval, nil
}

// gitConfig is the repository that is configured, kept in a folder of this name.
func gitConfig(cfg *config.Config, folder string) (source.GitConfig, error) {
	g := cfg.Policy.Git
	c := source.GitConfig{
		URL: g.URL.String(), Branch: g.Branch, Tag: g.Tag, Path: g.Path,
		User: g.User, CAFile: g.CAFile, SSHKeyFile: g.SSHKeyFile, KnownHostsFile: g.KnownHostsFile,
		AllowRewind: g.NonFastForward == config.NonFastForwardAllow,
		Directory:   filepath.Join(cfg.DataDirectory, "policy", folder),
	}
	if !g.Credentials.IsZero() {
		c.Token = g.Credentials.Read
	}
	if g.AllowedSignersFile != "" {
		signers, err := source.ReadSigners(g.AllowedSignersFile)
		if err != nil {
			return c, invalid{err}
		}
		c.Signers = signers
	}
	return c, nil
}
