package bitbucket

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/age"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/pause"
)

// load takes in what a store has kept.
func (n *names) load(ctx context.Context) {
	if n.store == nil {
		return
	}
	kept, err := n.store.LoadNames(ctx, n.workspace.UUID)
	if err != nil {
		n.log.Warn("bitbucket: load stored names failed", "workspace", n.workspace.Slug, "error", err)
		return
	}
	for _, name := range kept {
		now := n.now()
		if name.WorkspaceUUID == n.workspace.UUID && !name.FetchedAt.After(now) {
			name.FetchedAt = age.Anchor(name.FetchedAt, now)
			n.put(name)
		}
	}
}

// runStale looks up again what has become stale, one at a time, until ctx ends.
func (n *names) runStale(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		for k, found := n.nextStale(); found; k, found = n.nextStale() {
			err := n.request(ctx, k, true)
			if err == nil {
				continue
			}
			wait := n.api.Blocked()
			if errors.Is(err, bitbucketapi.ErrBusy) { // not sent at all; a step that still needs it will request it again
				wait = max(wait, 10*time.Second)
			} else if ctx.Err() == nil {
				n.log.Warn("bitbucket: refresh a name failed; using the cached name",
					"workspace", n.workspace.Slug, "repository_uuid", k.repository, "error", err)
			}
			if !pause.For(ctx, wait) {
				return
			}
		}
	}
}

func (n *names) nextStale() (nameKey, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.stale {
		delete(n.stale, k)
		return k, true
	}
	return nameKey{}, false
}

// runPrefetch learns the workspace's names before anybody asks: at once, and then
// as often as names are refreshed. It uses only the half of the request budget
// that no step waits for.
func (n *names) runPrefetch(ctx context.Context) {
	for {
		if err := n.prefetch(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("bitbucket: prefetch the workspace's names failed", "workspace", n.workspace.Slug, "error", err)
		}
		if !pause.For(ctx, jitter(n.config.NameRefresh)) {
			return
		}
	}
}

func (n *names) prefetch(ctx context.Context) error {
	var found []string
	err := n.patiently(ctx, func() error {
		found = found[:0]
		return n.api.Repositories(ctx, func(name identity.KnownName) {
			found = append(found, name.RepositoryUUID)
			n.fetch(ctx, name)
		})
	})
	if err != nil {
		return err
	}
	for _, repository := range found {
		err := n.patiently(ctx, func() error {
			return n.api.Environments(ctx, repository, func(name identity.KnownName) { n.fetch(ctx, name) })
		})
		if bitbucketapi.IsNotFound(err) {
			continue // Pipelines is not enabled there
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// patiently repeats what the API is too busy for, a few times.
func (n *names) patiently(ctx context.Context, do func() error) error {
	for range 10 {
		err := do()
		wait := n.api.Blocked()
		if err == nil || !errors.Is(err, bitbucketapi.ErrBusy) && wait == 0 {
			return err
		}
		if !pause.For(ctx, max(wait, time.Minute)) {
			return ctx.Err()
		}
	}
	return bitbucketapi.ErrBusy
}
