package bitbucket

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Authenticator verifies tokens of Bitbucket Pipelines and returns principals. It is safe
// for concurrent use. The server calls [Authenticator.Check] and [Authenticator.Run].
// Without Run, the authenticator fetches keys only when a token needs them, and does not
// refresh names.
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

	admitted    AdmittedStore // nil: expired tokens are not accepted
	unadmitted  unadmitted
	lookups     *fair.Limiter // of admitted tokens
	signatures  *fair.Limiter // checks of signatures, by client address
	revocations Revocations   // nil: no step is revoked
}

// New returns an authenticator. It reads the keys stored in Config.StateDirectory and
// makes no request. If the configuration is invalid, the error has all its faults.
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
				a.log.Warn("bitbucket: an audience is Bitbucket's default: every cloud that trusts the workspace accepts a token for this proxy; "+
					"choose your own audience", "workspace", w.Slug, "audience", audience)
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
		report: func(duration time.Duration, err error) {
			if err != nil {
				a.log.Warn("bitbucket: fetch an issuer's keys", "workspace", slug, "issuer", i.url, "error", err)
			}
			if a.hooks.KeysFetched != nil {
				a.hooks.KeysFetched(slug, duration, err)
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
	report := func(what string, duration time.Duration, err error) {
		if a.hooks.NamesFetched != nil {
			a.hooks.NamesFetched(slug, what, duration, err)
		}
	}
	i.names = &names{
		api:    bitbucketapi.New(a.http, *i.workspace.API, i.workspace.UUID, report),
		config: &a.config, workspace: &i.workspace, now: a.now, log: a.log,
		moved: a.hooks.NameReassigned, store: store, spawn: a.spawned.Go,
		wake: make(chan struct{}, 1), requested: make(chan struct{}, 1),
		known: map[nameKey]*nameEntry{}, owners: map[string]nameKey{},
		flights: map[nameKey]*flight{}, stale: map[nameKey]bool{}, budgets: map[string]*bitbucketapi.Bucket{}, waiting: fair.New(nameWaits),
	}
}
