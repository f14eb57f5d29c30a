package bitbucket

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Config configures an [Authenticator]. A duration or
// number that is zero takes the default that its comment names.
type Config struct {
	Workspaces []Workspace

	// StateDirectory is where the last good keys of each issuer are kept, in a
	// folder of its own. Empty keeps them in memory only.
	StateDirectory string

	Leeway      time.Duration // between our clock and the issuer's: 30s; negative means none, at most 5m
	MaxLifetime time.Duration // of a token, from iat to exp: 12h, the longest a step may run

	KeyRefresh    time.Duration // between background fetches of an issuer's keys: 15m, and a quarter of KeyMaxAge at most
	KeyMaxAge     time.Duration // how long keys serve that could not be fetched again: 24h
	KeyFetchFloor time.Duration // between fetches of one issuer that tokens cause: 5s
	FetchTimeout  time.Duration // of one fetch, discovery and keys together: 3s

	// AdmittedMaxAge is how long after its first admission a token is accepted
	// past its end: 0, not at all. It needs Deps.Admitted.
	AdmittedMaxAge time.Duration

	CacheEntries int // verified tokens that are recognized again: 10,000

	NameRefresh time.Duration // after which a name is looked up again in the background: 1h, and a quarter of NameMaxAge at most
	NameMaxAge  time.Duration // how long a name serves that could not be looked up again: 24h
	NameWait    time.Duration // how long a request waits for a name that was never known: 3s
}

// Workspace is one workspace whose steps are accepted.
type Workspace struct {
	Slug      string               // how logs and metrics call it; identity never rests on it
	UUID      string               // with or without braces, in any case
	Issuer    string               // exactly as in "Identity provider URL" of Repository settings > Pipelines > OpenID Connect
	Audiences []string             // a token must name at least one of these
	API       *bitbucketapi.Config // nil: no names, UUIDs only
}

// Deps are the dependencies of an [Authenticator]. Every field may be left out.
type Deps struct {
	Now       func() time.Time  // time.Now
	Log       *slog.Logger      // discards
	Transport http.RoundTripper // to issuers and APIs; by default one that takes nothing from the environment
	Hooks     Hooks
	Names     NameStore // keeps names over a restart

	Admitted    AdmittedStore // keeps admitted tokens; required with Config.AdmittedMaxAge
	Revocations Revocations   // nil: no step is revoked
}

// Hooks receive what happens, for metrics and events. Each may be nil, is
// called synchronously, must not block and must be safe for concurrent use.
// The workspace is the configured slug, empty where a token belongs to none.
type Hooks struct {
	// Verified: a token was accepted; again: it was recognized by its digest.
	Verified func(workspace string, again bool)
	// Refused: a token was not accepted. The check is one word for what refused it.
	Refused func(workspace string, problem identity.Problem, check string)
	// KeysFetched: a fetch of an issuer's keys has ended.
	KeysFetched func(workspace string, duration time.Duration, err error)
	// NamesFetched: a request to the REST API has ended; what is workspace,
	// repository, deployment, repositories or deployments.
	NamesFetched func(workspace, what string, duration time.Duration, err error)
	// NameReassigned: a name that belonged to one UUID now belongs to another, as when
	// a repository is deleted and made again, or renamed and its name taken over.
	NameReassigned func(workspace, name, fromUUID, toUUID string)
}

// Bounds that are not worth a setting.
const (
	maxLeeway       = 5 * time.Minute
	maxAudience     = 255                               // Bitbucket allows 150 characters in one
	defaultAudience = "ari:cloud:bitbucket::workspace/" // and the workspace's UUID: of a step with oidc: true
)

// withDefaults fills in what was left at zero.
func (c Config) withDefaults() Config {
	c.Leeway = cmp.Or(c.Leeway, 30*time.Second)
	if c.Leeway < 0 {
		c.Leeway = 0
	}
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 12*time.Hour)
	c.KeyMaxAge = cmp.Or(c.KeyMaxAge, 24*time.Hour)
	c.KeyRefresh = cmp.Or(c.KeyRefresh, min(15*time.Minute, c.KeyMaxAge/4))
	c.KeyFetchFloor = cmp.Or(c.KeyFetchFloor, 5*time.Second)
	c.FetchTimeout = cmp.Or(c.FetchTimeout, 3*time.Second)
	c.CacheEntries = cmp.Or(c.CacheEntries, 10_000)
	c.NameMaxAge = cmp.Or(c.NameMaxAge, 24*time.Hour)
	c.NameRefresh = cmp.Or(c.NameRefresh, min(time.Hour, c.NameMaxAge/4))
	c.NameWait = cmp.Or(c.NameWait, 3*time.Second)
	return c
}

// validate returns everything that is wrong with a configuration whose defaults
// are filled in.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Workspaces) == 0 {
		bad("no workspace is configured, so no token could ever be accepted")
	}
	issuers := map[string]bool{}
	for i, w := range c.Workspaces {
		name := cmp.Or(w.Slug, fmt.Sprintf("number %d", i+1))
		for _, err := range w.validate() {
			bad("workspace %s: %w", name, err)
		}
		if issuers[w.Issuer] {
			bad("workspace %s: issuer %s is configured twice", name, w.Issuer)
		}
		issuers[w.Issuer] = true
	}
	if c.Leeway > maxLeeway {
		bad("leeway is %v, at most %v is accepted", c.Leeway, maxLeeway)
	}
	for name, d := range map[string]time.Duration{
		"maximum lifetime": c.MaxLifetime, "key refresh": c.KeyRefresh, "key maximum age": c.KeyMaxAge,
		"key fetch floor": c.KeyFetchFloor, "admitted maximum age": c.AdmittedMaxAge, "fetch timeout": c.FetchTimeout,
		"name refresh": c.NameRefresh, "name maximum age": c.NameMaxAge, "name wait": c.NameWait,
	} {
		if d < 0 {
			bad("%s is %v, it must be positive", name, d)
		}
	}
	if c.CacheEntries < 0 {
		bad("cache entries are %d, they must be positive", c.CacheEntries)
	}
	if c.KeyMaxAge < c.KeyRefresh {
		bad("key maximum age %v is below key refresh %v: keys would end between two fetches", c.KeyMaxAge, c.KeyRefresh)
	}
	if c.NameMaxAge < c.NameRefresh {
		bad("name maximum age %v is below name refresh %v: names would end between two look-ups", c.NameMaxAge, c.NameRefresh)
	}
	return errors.Join(errs...)
}

func (w Workspace) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if w.Slug == "" {
		bad("its slug is missing")
	}
	if _, ok := uuid.Parse(w.UUID); !ok {
		bad("workspace_uuid %q is not a UUID", w.UUID)
	}
	if _, err := bitbucketapi.ParseURL(w.Issuer); err != nil {
		bad("issuer: %w", err)
	}
	if len(w.Audiences) == 0 {
		bad("no audience is configured; choose one, such as this proxy's own URL, and put it under oidc: audiences: of the steps")
	}
	for _, a := range w.Audiences {
		if a == "" || len(a) > maxAudience || !printable.IsClean(a) {
			bad("audience %q is empty, longer than %d bytes or has control characters", a, maxAudience)
		}
	}
	if w.API != nil {
		errs = append(errs, w.API.Validate()...)
	}
	return errs
}
