package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/age"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	maxKnownNames = 200_000 // of one workspace
	maxBudgets    = 4096    // repositories whose share of the budget is counted
)

// nameKey identifies what has a name; the deployment is empty for a repository.
type nameKey struct{ repository, deployment string }

// nameEntry is what is known of one name.
type nameEntry struct {
	name     identity.KnownName // FetchedAt is zero: never known
	retry    time.Time          // not asked for again before
	failures int
	err      error // of the latest attempt
}

// names knows what the UUIDs of one workspace are called. A name is fresh for
// Config.NameRefresh, then serves while it is looked up again in the background,
// and ends at Config.NameMaxAge. It is safe for concurrent use.
type names struct {
	api       *bitbucketapi.Client
	config    *Config
	workspace *Workspace
	now       func() time.Time
	log       *slog.Logger
	moved     func(workspace, name, fromUUID, toUUID string) // may be nil
	store     NameStore                                      // may be nil
	spawn     func(func())
	wake      chan struct{} // there is something in stale
	requested chan struct{} // one value: a listing is requested that has not begun

	version atomic.Uint64 // counts changes of any name

	mu      sync.RWMutex
	known   map[nameKey]*nameEntry
	owners  map[string]nameKey // the UUID that has a name, by nameID
	flights map[nameKey]*flight
	waiting *fair.Limiter
	budgets map[string]*bitbucketapi.Bucket // what each repository has left of its share of the budget
	stale   map[nameKey]bool                // to be looked up in the background
	missing []string                        // UUID and name of known repositories that the latest requested listing lacks
}

// presentation is the principal with the names of a moment.
type presentation struct {
	principal *identity.Principal
	version   uint64    // of the names, when it was made
	until     time.Time // when a name wants to be checked again; zero: never
}

// present returns the principal with the names of this moment. base holds the
// UUIDs and is not changed. Where a name has never been known it waits for it,
// no longer than Config.NameWait.
func (n *names) present(ctx context.Context, base *identity.Principal) (*presentation, error) {
	keys := []nameKey{{repository: base.Repository.UUID}}
	if base.Deployment != nil {
		keys = append(keys, nameKey{base.Repository.UUID, base.Deployment.UUID})
	}
	var flights []*flight
	for _, k := range keys {
		f, err := n.flightFor(ctx, k)
		if err != nil {
			return nil, err
		}
		if f != nil {
			flights = append(flights, f)
		}
	}
	if err := n.await(ctx, base, flights); err != nil {
		return nil, err
	}
	return n.compose(base, keys)
}

// compose reads the names of all keys under one lock, so that a rename is seen
// whole or not at all.
func (n *names) compose(base *identity.Principal, keys []nameKey) (*presentation, error) {
	p := *base
	now := n.now()
	shown := &presentation{principal: &p, version: n.version.Load(), until: now.Add(n.config.NameRefresh)}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, k := range keys {
		e := n.known[k]
		if !n.serves(e, now) {
			return nil, errors.New("a name was forgotten while it was read")
		}
		due := e.name.FetchedAt.Add(n.config.NameRefresh)
		if !now.Before(due) { // stale: look again soon, and not after its end
			due = earlier(now.Add(time.Second), e.name.FetchedAt.Add(n.config.NameMaxAge))
		}
		shown.until = earlier(shown.until, due)
		if k.deployment != "" {
			p.Deployment = &identity.Deployment{UUID: k.deployment, Name: e.name.Name, Slug: e.name.Slug, Type: e.name.Type}
			continue
		}
		p.Workspace.Slug = e.name.WorkspaceSlug
		p.Repository.FullName, p.Repository.Project = e.name.FullName, e.name.Project
	}
	return shown, nil
}

// recall returns the principal with the known names of this moment. It sends no request
// and does not wait. base is not changed.
func (n *names) recall(base *identity.Principal) *identity.Principal {
	p := *base
	now := n.now()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.known[nameKey{repository: p.Repository.UUID}]; n.serves(e, now) {
		p.Workspace.Slug, p.Repository.FullName, p.Repository.Project = e.name.WorkspaceSlug, e.name.FullName, e.name.Project
	}
	if d := p.Deployment; d != nil {
		if e := n.known[nameKey{p.Repository.UUID, d.UUID}]; n.serves(e, now) {
			p.Deployment = &identity.Deployment{UUID: d.UUID, Name: e.name.Name, Slug: e.name.Slug, Type: e.name.Type}
		}
	}
	return &p
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (n *names) serves(e *nameEntry, now time.Time) bool {
	return e != nil && !e.name.FetchedAt.IsZero() && !age.Exceeds(e.name.FetchedAt, now, n.config.NameMaxAge-1)
}

// flightFor requests a name that is not known. It returns the flight to wait for, nil if
// the name is known, and an error if the name cannot be requested now.
func (n *names) flightFor(ctx context.Context, k nameKey) (*flight, error) {
	now := n.now()
	n.mu.RLock()
	e := n.known[k]
	serves := n.serves(e, now)
	fresh := serves && (now.Sub(e.name.FetchedAt) < n.config.NameRefresh || now.Before(e.retry))
	n.mu.RUnlock()
	if fresh {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if serves {
		n.stale[k] = true
		select {
		case n.wake <- struct{}{}:
		default:
		}
		return nil, nil
	}
	if f := n.flights[k]; f != nil {
		return f, nil
	}
	if e := n.known[k]; e != nil && now.Before(e.retry) {
		return nil, e.err
	}
	f := &flight{done: make(chan struct{})}
	n.flights[k] = f
	n.spawn(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.config.NameWait)
		defer cancel()
		n.startLookup(k, f, func() error { return n.retry(ctx, k) })
	})
	return f, nil
}

// startLookup ends a flight with what the function returns.
func (n *names) startLookup(k nameKey, f *flight, do func() error) {
	f.err = do()
	n.mu.Lock()
	delete(n.flights, k)
	n.mu.Unlock()
	close(f.done)
}

// await waits for flights, which bound themselves.
func (n *names) await(ctx context.Context, p *identity.Principal, flights []*flight) error {
	if len(flights) == 0 {
		return nil
	}
	lease, err := n.waiting.TryAcquire(subject(p), 0)
	if err != nil {
		return fmt.Errorf("wait for names: %w", err)
	}
	defer lease.Release()
	for _, f := range flights {
		select {
		case <-f.done:
			if f.err != nil {
				return f.err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// retry looks a name up until it is known, cannot be had, or ctx ends: a
// hiccup of the API that is shorter than the wait is not seen by a step.
func (n *names) retry(ctx context.Context, k nameKey) error {
	for {
		err := n.request(ctx, k, false)
		wait := n.api.Blocked()
		if err == nil || wait == 0 {
			return err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < wait || !pause.For(ctx, wait) {
			return err
		}
	}
}

// request looks one name up and keeps what comes of it.
func (n *names) request(ctx context.Context, k nameKey, background bool) error {
	var name identity.KnownName
	var err error
	if !background && !n.takeFromBudget(k.repository) {
		return fmt.Errorf("%w: this repository has used its share of the budget of requests", bitbucketapi.ErrBusy)
	}
	if k.deployment == "" {
		name, err = n.api.Repository(ctx, k.repository, background)
	} else {
		name, err = n.api.Environment(ctx, k.repository, k.deployment, background)
	}
	if err != nil {
		n.fail(k, err)
		return err
	}
	n.fetch(ctx, name)
	return nil
}

// takeFromBudget removes one request from a repository's share of the budget, which is half
// of it: a repository with many deployments leaves the rest to the others.
func (n *names) takeFromBudget(repository string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	b := n.budgets[repository]
	if b == nil {
		if len(n.budgets) >= maxBudgets {
			n.budgets = make(map[string]*bitbucketapi.Bucket) // the budget of all still holds
		}
		fresh := n.api.RepositoryShare()
		b = &fresh
		n.budgets[repository] = b
	}
	return b.Take(now, 1)
}

// fail remembers that a name could not be looked up, so that not every request looks it
// up again. A lookup that was not sent is not a failure of the name.
func (n *names) fail(k nameKey, err error) {
	if errors.Is(err, bitbucketapi.ErrBusy) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.known[k]
	if e == nil {
		e = &nameEntry{}
		n.addEntry(k, e)
	}
	e.err = err
	e.retry = n.now().Add(min(bitbucketapi.MaxBackoff, bitbucketapi.MinBackoff<<min(e.failures, 6)))
	e.failures++
}

// fetch stores a name that the API returned.
func (n *names) fetch(ctx context.Context, name identity.KnownName) {
	n.put(name)
	if n.store == nil {
		return
	}
	if err := n.store.SaveName(ctx, name); err != nil && ctx.Err() == nil {
		n.log.Warn("bitbucket: store a name failed", "workspace", n.workspace.Slug, "repository_uuid", name.RepositoryUUID, "error", err)
	}
}

// put stores a name. If another UUID had the name until now, that UUID's name is
// removed and has to be fetched again. A repository that was created under the name of
// a deleted or renamed one must not be mistaken for it, nor the other way round.
func (n *names) put(name identity.KnownName) {
	k := nameKey{name.RepositoryUUID, name.DeploymentUUID}
	n.mu.Lock()
	old := n.known[k]
	if old != nil && old.name.FetchedAt.After(name.FetchedAt) {
		n.mu.Unlock()
		return
	}
	if old != nil && !old.name.FetchedAt.IsZero() && n.owners[nameID(old.name)] == k {
		delete(n.owners, nameID(old.name))
	}
	previous, taken := n.owners[nameID(name)]
	taken = taken && previous != k
	if taken {
		delete(n.known, previous)
	}
	n.addEntry(k, &nameEntry{name: name})
	n.owners[nameID(name)] = k
	delete(n.stale, k)
	if taken || old == nil || !sameName(old.name, name) {
		n.version.Add(1)
	}
	n.mu.Unlock()
	if taken {
		from, to := previous.repository, k.repository
		if k.deployment != "" {
			from, to = previous.deployment, k.deployment
		}
		n.log.Warn("bitbucket: name reassigned to another UUID", "workspace", n.workspace.Slug,
			"kind", name.Kind, "name", shownName(name), "from_uuid", from, "to_uuid", to)
		if n.moved != nil {
			n.moved(n.workspace.Slug, shownName(name), from, to)
		}
	}
}

// keep stores an entry within the bound. The caller holds mu.
func (n *names) addEntry(k nameKey, e *nameEntry) {
	if _, have := n.known[k]; !have && len(n.known) >= maxKnownNames {
		for victim, v := range n.known { // any one will do: it can be fetched again
			delete(n.known, victim)
			delete(n.owners, nameID(v.name))
			break
		}
	}
	n.known[k] = e
}

func (n *names) bearer(fullName string) (nameKey, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	k, found := n.owners[fullName]
	return k, found && k.deployment == ""
}
