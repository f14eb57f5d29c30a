package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Authenticator turns tokens of Bitbucket Pipelines into principals. It is safe
// for concurrent use. [Authenticator.Check] and [Authenticator.Run] belong to
// the process around it; it verifies without them too, but then fetches keys
// only when a token needs them, and never refreshes a name.
type Authenticator struct {
	config  Config
	now     func() time.Time
	log     *slog.Logger
	hooks   Hooks
	http    *bitbucketapi.HTTP
	issuers map[string]*issuer // by URL
	list    []*issuer          // in the order of the configuration
	cache   *cache
	spawned sync.WaitGroup
	skip    checkSet

	admitted    AdmittedStore // nil: a token ends at its end
	unadmitted  unadmitted
	lookups     *fair.Limiter // of admitted tokens
	signatures  *fair.Limiter // checks of signatures, by client address
	revocations Revocations   // nil: nobody is revoked
}

// issuer is one workspace with its keys and names.
type issuer struct {
	workspace Workspace
	url       string
	keys      *keySet
	names     *names // nil: UUIDs only
	// mistake is what the API found wrong with the workspace's configuration; nil: nothing.
	mistake atomic.Pointer[error]
}

// New returns an authenticator that has read the keys kept in
// Config.StateDirectory and made no request. It fails on a configuration that
// is wrong, with everything that is wrong with it.
func New(c Config, deps Deps) (*Authenticator, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("bitbucket: configuration: %w", err)
	}
	a := &Authenticator{
		config: c, now: deps.Now, log: deps.Log, hooks: deps.Hooks,
		issuers: map[string]*issuer{}, cache: newCache(c.CacheEntries), revocations: deps.Revocations,
		signatures: fair.New(signatureChecks()),
	}
	if c.AdmittedMaxAge > 0 {
		if deps.Admitted == nil {
			return nil, errors.New("bitbucket: configuration: a grace period for expired tokens requires a store of admitted tokens")
		}
		a.admitted, a.lookups = deps.Admitted, fair.New(admittedLookups)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.http = bitbucketapi.NewHTTP(deps.Transport, a.now)
	for _, w := range c.Workspaces {
		w.UUID, _ = uuid.Parse(w.UUID) // validated
		w.Audiences = slices.Clone(w.Audiences)
		for _, audience := range w.Audiences {
			if strings.HasPrefix(audience, defaultAudience) {
				a.log.Warn("bitbucket: an audience is Bitbucket's default, so that a token for this proxy is one for every cloud that trusts the workspace; "+
					"choose one of your own", "workspace", w.Slug, "audience", audience)
			}
		}
		i := &issuer{workspace: w, url: w.Issuer}
		if err := a.attachKeys(i); err != nil {
			return nil, fmt.Errorf("bitbucket: workspace %s: %w", w.Slug, err)
		}
		a.attachNames(i, deps.Names)
		a.issuers[w.Issuer] = i
		a.list = append(a.list, i)
	}
	return a, nil
}

func (a *Authenticator) attachKeys(i *issuer) error {
	slug := i.workspace.Slug
	i.keys = &keySet{
		http: a.http, issuer: i.url, config: &a.config, now: a.now,
		budget: bitbucketapi.NewBucket(fetchBurst, fetchPer),
		spawn:  a.spawned.Go,
		report: func(took time.Duration, err error) {
			if err != nil {
				a.log.Warn("bitbucket: fetch an issuer's keys", "workspace", slug, "issuer", i.url, "error", err)
			}
			if a.hooks.KeysFetched != nil {
				a.hooks.KeysFetched(slug, took, err)
			}
		},
		skipped: func(list []string) {
			a.log.Warn("bitbucket: the issuer publishes keys that cannot be used; tokens that they sign are refused", "workspace", slug, "issuer", i.url, "keys", list)
		},
	}
	if a.config.StateDirectory == "" {
		return nil
	}
	file, err := newKeyFile(a.config.StateDirectory, i.url, a.log)
	if err != nil {
		return err
	}
	i.keys.file = file
	if st := file.load(i.url, a.now()); st != nil {
		i.keys.state.Store(st)
	}
	return nil
}

func (a *Authenticator) attachNames(i *issuer, store NameStore) {
	if i.workspace.API == nil {
		return
	}
	slug := i.workspace.Slug
	report := func(what string, took time.Duration, err error) {
		if a.hooks.NamesFetched != nil {
			a.hooks.NamesFetched(slug, what, took, err)
		}
	}
	i.names = &names{
		api:    bitbucketapi.New(a.http, *i.workspace.API, i.workspace.UUID, report),
		config: &a.config, workspace: &i.workspace, now: a.now, log: a.log,
		moved: a.hooks.NameMoved, store: store, spawn: a.spawned.Go,
		wake:  make(chan struct{}, 1),
		known: map[nameKey]*nameEntry{}, owners: map[string]nameKey{},
		flights: map[nameKey]*flight{}, stale: map[nameKey]bool{}, asked: map[string]*bitbucketapi.Bucket{}, waiting: fair.New(nameWaits),
	}
}

// Authenticate verifies the credential and returns its step, with its names
// where the workspace has an API. Any failure is an [*identity.Error]; it carries
// the principal where the issuer's signature, the workspace and the subject are
// right, whatever else is wrong. It waits for keys and names that are not at
// hand no longer than Config.FetchTimeout and Config.NameWait, or until ctx ends.
// The credential is not kept.
func (a *Authenticator) Authenticate(ctx context.Context, credential identity.Credential) (*identity.Principal, error) {
	if credential.IsZero() {
		return nil, a.refused(nil, &identity.Error{Problem: identity.CredentialMissing, Detail: "no credential was presented"})
	}
	raw := credential.Reveal()
	if err := tooLarge(raw); err != nil && !a.skip.has(checkSize) {
		return nil, a.refused(nil, err)
	}
	now := a.now()
	d := credential.Digest()
	v := a.cache.get(&d)
	if v != nil && !v.cachedChecks(now) {
		a.cache.drop(v)
		v = nil
	}
	again := v != nil
	if !again {
		proven, i, err := a.verify(ctx, raw, d, now)
		if err != nil {
			return nil, a.refused(i, err)
		}
		v = proven
		a.cache.put(v)
	}
	if err := a.checkRevoked(v); err != nil {
		return nil, a.refused(v.issuer, err)
	}
	if a.admitted != nil && v.kind == identity.CredentialOIDC {
		a.admitted.Admit(v.present.Load().principal)
	}
	p, err := v.named(ctx, now)
	if err != nil {
		return nil, a.refused(v.issuer, err)
	}
	if a.hooks.Verified != nil {
		a.hooks.Verified(v.issuer.workspace.Slug, again)
	}
	return p, nil
}

// principal is the step with its UUIDs and without names.
func (v *verified) principal() *identity.Principal {
	p := &identity.Principal{
		Kind: identity.KindBitbucketStep, Issuer: v.issuer.url,
		Workspace:  identity.Workspace{UUID: v.claims.workspace},
		Repository: identity.Repository{UUID: v.claims.repository},
		Pipeline:   identity.Run{UUID: v.claims.pipeline},
		Step:       identity.Run{UUID: v.claims.step},
		Branch:     v.claims.branch,

		CredentialKind: v.kind, CredentialDigest: v.digest, Expires: v.expires,
	}
	if v.claims.deployment != "" {
		p.Deployment = &identity.Deployment{UUID: v.claims.deployment}
	}
	return p
}

// named returns the principal with the names of this moment. The one that was
// handed out last is handed out again while no name has changed.
func (v *verified) named(ctx context.Context, now time.Time) (*identity.Principal, *identity.Error) {
	shown := v.present.Load()
	n := v.issuer.names
	if n == nil || now.Before(shown.until) && shown.version == n.version.Load() {
		return shown.principal, nil
	}
	fresh, err := n.present(ctx, v.principal())
	if err != nil {
		e := refuse(checkNamed, identity.NamesUnavailable,
			"Bitbucket's API has not yet returned the name of this repository or deployment, and policy may need it; try again in a minute", err)
		e.Principal = v.principal()
		return nil, e
	}
	v.present.Store(fresh)
	return fresh.principal, nil
}

// refused tells the hook, and returns the error as an error.
func (a *Authenticator) refused(i *issuer, e *identity.Error) error {
	if a.hooks.Refused != nil {
		slug, word := "", ""
		if i != nil {
			slug = i.workspace.Slug
		}
		if r, ok := errors.AsType[*refusal](e.Err); ok {
			word = r.check.String()
		}
		a.hooks.Refused(slug, e.Problem, word)
	}
	return e
}
