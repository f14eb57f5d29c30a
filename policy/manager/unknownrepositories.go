package manager

import (
	"context"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/policy/rego"
)

// How often another active revision is looked for, how old a list of the workspaces'
// repositories may be, and when a list that failed is requested again.
const (
	repositoriesInterval = 5 * time.Second
	repositoriesMaxAge   = time.Hour
	repositoriesRetry    = 5 * time.Minute
)

// WarnUnknownRepositories logs, once for each active revision, the repositories that the
// policy names and no workspace has: rules for them apply to no step. list lists the full
// names of the workspaces' repositories. It returns when ctx ends, or at once if rules see
// no names.
func (p *Manager) WarnUnknownRepositories(ctx context.Context, list func(context.Context) ([]string, error)) {
	if !p.options.Names {
		return
	}
	c := repositoryCheck{active: p.engine.Current, list: list, log: p.log}
	tick := time.NewTicker(repositoriesInterval)
	defer tick.Stop()
	for {
		c.run(ctx, time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// repositoryCheck compares the repositories that a revision names with those of the
// workspaces.
type repositoryCheck struct {
	active func() *rego.Set
	list   func(context.Context) ([]string, error)
	log    *slog.Logger

	names   []string  // of the workspaces' repositories
	listed  time.Time // when they were listed; zero: never, or the list failed
	next    time.Time // no check before this time
	checked string    // digest of the revision that was checked
}

// run checks the active revision if it was not checked yet.
func (c *repositoryCheck) run(ctx context.Context, now time.Time) {
	set := c.active()
	if set == nil || set.Revision().Digest == c.checked || now.Before(c.next) {
		return
	}
	unknown, err := c.unknown(ctx, set, now)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		c.log.Warn("policy", "warning", err.Error())
		c.listed, c.next = time.Time{}, now.Add(repositoriesRetry)
		return
	}
	c.checked = set.Revision().Digest
	for _, w := range unknown {
		c.log.Warn("policy", "warning", w.Error(), "revision", c.checked)
	}
}

func (c *repositoryCheck) unknown(ctx context.Context, set *rego.Set, now time.Time) (rego.Errors, error) {
	if now.Sub(c.listed) > repositoriesMaxAge {
		names, err := c.list(ctx)
		if err != nil {
			return nil, err
		}
		c.names, c.listed = names, now
	}
	return rego.UnknownRepositories(ctx, set, c.names)
}
