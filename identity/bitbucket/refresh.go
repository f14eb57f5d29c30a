package bitbucket

import (
	"context"
	"slices"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/pause"
)

// refreshPause is the shortest time between two requested listings of a workspace: a flood of
// requests must not use up the API's budget.
const refreshPause = 30 * time.Second

// maxMissing bounds the repositories that are reported as missing.
const maxMissing = 100

// RefreshNames lists the repositories of every workspace again, soon and in the background,
// and takes over changed names. It does not block and is safe for concurrent use. Requests
// that come before a listing begins share it. A known repository that a complete listing
// lacks is logged and is in [Status.MissingRepositories]: it was deleted, moved to another
// workspace, or hidden from the access token.
func (a *Authenticator) RefreshNames() {
	for _, i := range a.list {
		if i.names == nil {
			continue
		}
		select {
		case i.names.requested <- struct{}{}:
		default: // the next listing has not begun
		}
	}
}

// runRequested lists repositories at each request, until ctx ends.
func (n *names) runRequested(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.requested:
		}
		if err := n.refresh(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("bitbucket: refresh the workspace's names failed; using the cached names", "workspace", n.workspace.Slug, "error", err)
		}
		if !pause.For(ctx, refreshPause) {
			return
		}
	}
}

// refresh lists the repositories and notes those that are missing.
func (n *names) refresh(ctx context.Context) error {
	n.mu.RLock()
	known := map[string]string{} // before the listing: one that is made meanwhile is not missing
	for k, e := range n.known {
		if k.deployment == "" && !e.name.FetchedAt.IsZero() {
			known[k.repository] = e.name.FullName
		}
	}
	n.mu.RUnlock()
	seen := map[string]bool{}
	err := n.patiently(ctx, func() error {
		return n.api.Repositories(ctx, func(name identity.KnownName) {
			seen[name.RepositoryUUID] = true
			n.fetch(ctx, name)
		})
	})
	if err != nil {
		return err
	}
	var missing []string
	for uuid, name := range known {
		if !seen[uuid] {
			missing = append(missing, uuid+" "+name)
		}
	}
	slices.Sort(missing)
	missing = missing[:min(len(missing), maxMissing)]
	n.mu.Lock()
	before := n.missing
	n.missing = missing
	n.mu.Unlock()
	for _, m := range missing {
		if !slices.Contains(before, m) {
			n.log.Warn("bitbucket: a known repository is missing in the workspace: deleted, moved, or hidden from the access token", "workspace", n.workspace.Slug, "repository", m)
		}
	}
	return nil
}
