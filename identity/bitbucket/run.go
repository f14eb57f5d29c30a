package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
)

// Check asks every issuer for its keys, side by side, loads the names that were
// kept, and reads the access tokens of the APIs. It fails with one error for every
// workspace whose tokens cannot be verified (its issuer does not answer and no keys
// were kept that may still be used) or whose API states that workspace_uuid is not
// the workspace's. An issuer that does not answer while its kept keys serve is
// logged. It is for checking a configuration.
func (a *Authenticator) Check(ctx context.Context) error { return errors.Join(a.check(ctx)...) }

// Begin is [Authenticator.Check] for the start of a process: it fails where tokens of
// no workspace can be verified, and logs what is wrong with the others, which
// [Authenticator.Warning] reports until it is corrected.
func (a *Authenticator) Begin(ctx context.Context) error {
	errs := a.check(ctx)
	if err := a.Ready(); err != nil {
		return errors.Join(errs...)
	}
	for at, err := range errs {
		if err != nil {
			a.log.Error("bitbucket: steps of a workspace cannot be admitted", "workspace", a.list[at].workspace.Slug, "error", err)
		}
	}
	return nil
}

// Warning returns an error that names every workspace whose tokens cannot be
// verified at the moment, or whose workspace_uuid is another's.
func (a *Authenticator) Warning() error {
	var errs []error
	for at, s := range a.Status() {
		if !s.KeysUsable {
			errs = append(errs, fmt.Errorf("workspace %s: no keys of issuer %s are at hand, so its steps are refused: %w", s.Workspace, s.Issuer, s.KeysError))
		}
		if err := a.list[at].mistake.Load(); err != nil {
			errs = append(errs, *err)
		}
	}
	return errors.Join(errs...)
}

// check is nil for each workspace that is in order.
func (a *Authenticator) check(ctx context.Context) []error {
	errs := make([]error, len(a.list))
	var all sync.WaitGroup
	for at, i := range a.list {
		all.Go(func() {
			errs[at] = errors.Join(i.check(ctx, a), i.compareWorkspace(ctx))
		})
	}
	all.Wait()
	return errs
}

// compareWorkspace asks the API, where there is one, whether the workspace's UUID is
// that of the workspace. An API that does not answer now is not a mistake of the
// configuration; a step's names show it.
func (i *issuer) compareWorkspace(ctx context.Context) error {
	if i.names == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := i.names.api.CheckWorkspace(ctx, i.workspace.Slug)
	if err == nil {
		i.mistake.Store(nil)
		return nil
	}
	err = fmt.Errorf("bitbucket: workspace %s: %w", i.workspace.Slug, err)
	if _, wrong := errors.AsType[*bitbucketapi.WorkspaceError](err); wrong {
		i.mistake.Store(&err)
		return err
	}
	i.names.log.Warn("bitbucket: the workspace cannot be looked up", "workspace", i.workspace.Slug, "error", err)
	return nil
}

func (i *issuer) check(ctx context.Context, a *Authenticator) error {
	slug := i.workspace.Slug
	if i.names != nil {
		if _, err := i.workspace.API.Token(); err != nil {
			return fmt.Errorf("bitbucket: workspace %s: read the access token of the API: %w", slug, err)
		}
		i.names.load(ctx)
	}
	err := i.keys.refresh(ctx)
	st := i.keys.current(a.now())
	switch {
	case err != nil && st == nil:
		return fmt.Errorf("bitbucket: workspace %s: the keys of issuer %s cannot be fetched and none were kept, so no token could be verified: %w; "+
			"compare the issuer with Repository settings > Pipelines > OpenID Connect, see that a step with oidc has run once, and that this machine reaches it", slug, i.url, err)
	case err != nil:
		a.log.Warn("bitbucket: issuer unavailable; using cached keys", "workspace", slug, "issuer", i.url,
			"fetched", st.fetched, "until", st.fetched.Add(a.config.KeyMaxAge), "error", err)
	case len(st.keys) == 0:
		return fmt.Errorf("bitbucket: workspace %s: issuer %s publishes no RSA key of %d bits or more for RS256, so no token could be verified", slug, i.url, minRSABits)
	}
	return nil
}

// Run keeps keys and names fresh until ctx ends, and returns nil when all of
// its work has ended.
func (a *Authenticator) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, i := range a.list {
		all.Go(func() { i.keys.run(ctx) })
		if i.names != nil {
			all.Go(func() { i.names.runStale(ctx) })
			all.Go(func() { i.names.runPrefetch(ctx) })
			all.Go(func() { i.names.runRequested(ctx) })
		}
	}
	all.Wait()
	return nil
}

// Close waits for the look-ups that are under way, which bound themselves, and
// closes connections. It is called when Run has returned and no caller authenticates.
func (a *Authenticator) Close() {
	a.spawned.Wait()
	a.http.CloseIdleConnections()
}

// Status is the state of one workspace, for /readyz, metrics and the
// command line.
type Status struct {
	Workspace string
	Issuer    string

	Keys       int       // that tokens can be verified with
	Skipped    []string  // keys that the issuer publishes and that cannot be used, and why
	FromDisk   bool      // the keys are those that were kept; the issuer has not answered yet
	Fetched    time.Time // when the issuer last answered; zero: never
	KeysUsable bool      // there are keys, and they are not too old
	KeysError  error     // of the latest fetch

	Names      bool // the workspace has an API
	KnownNames int  // repositories and deployments whose names are known
	// MissingRepositories are the UUID and the name of known repositories that the latest
	// requested listing lacks, at most 100. It must not be changed.
	MissingRepositories []string
	NamesError          error // of the latest request
	// NamesSucceeded is when the API last returned a name; zero: never.
	NamesSucceeded time.Time
}

// Status returns the state of every workspace, in the order of the configuration.
func (a *Authenticator) Status() []Status {
	all := make([]Status, 0, len(a.list))
	for _, i := range a.list {
		s := Status{Workspace: i.workspace.Slug, Issuer: i.url}
		if st := i.keys.state.Load(); st != nil {
			s.Keys, s.Skipped, s.FromDisk, s.Fetched = len(st.keys), st.skipped, st.fromDisk, st.fetched
			s.KeysUsable = len(st.keys) > 0 && i.keys.current(a.now()) != nil
		}
		i.keys.mu.Lock()
		s.KeysError = i.keys.failure
		i.keys.mu.Unlock()
		if n := i.names; n != nil {
			s.Names = true
			n.mu.RLock()
			s.KnownNames, s.MissingRepositories = len(n.owners), n.missing
			n.mu.RUnlock()
			st := n.api.State()
			s.NamesError, s.NamesSucceeded = st.Err, st.Succeeded
		}
		all = append(all, s)
	}
	return all
}

// Ready returns an error while tokens of no workspace can be verified. That
// some cannot is in Status: it must not take the others' proxy away.
func (a *Authenticator) Ready() error {
	for _, s := range a.Status() {
		if s.KeysUsable {
			return nil
		}
	}
	return errors.New("bitbucket: no issuer's keys are at hand: no token can be verified")
}
