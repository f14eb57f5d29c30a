package bitbucket

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/tokentest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	audience  = tokentest.Audience
	otherUUID = "{11111111-2222-3333-4444-555555555555}"
)

// env is an emulated Bitbucket without sockets, so that it can live in a
// synctest bubble, and an authenticator in front of it.
type env struct {
	t         testing.TB
	server    *bitbuckettest.Server
	acme      *bitbuckettest.Workspace
	payments  *bitbuckettest.Repository
	eu        *bitbuckettest.Environment
	step      *bitbuckettest.Step // of main, deploying to eu
	plain     *bitbuckettest.Step // of main, deploying nothing
	auth      *Authenticator
	log       bytes.Buffer
	logMu     sync.Mutex
	fetches   int
	fetchesMu sync.Mutex
}

func (h *env) Write(p []byte) (int, error) {
	h.logMu.Lock()
	defer h.logMu.Unlock()
	return h.log.Write(p)
}

// build makes an env. The configuration has one workspace, without API, and
// can be changed before the authenticator is made.
func build(t testing.TB, change func(*env, *Config, *Deps)) *env {
	t.Helper()
	f, err := bitbuckettest.NewFixture()
	if err != nil {
		t.Fatal(err)
	}
	h := &env{t: t, server: f.Server, acme: f.Acme, payments: f.Payments, eu: f.EU}
	run := h.payments.Run("main")
	h.step, h.plain = run.Step(h.eu), run.Step(nil)
	h.auth = h.authenticator(change)
	t.Cleanup(func() {
		h.auth.Close()
		f.Server.Close()
	})
	return h
}

// authenticator makes another one in front of the same Bitbucket.
func (h *env) authenticator(change func(*env, *Config, *Deps)) *Authenticator {
	h.t.Helper()
	c := Config{Workspaces: []Workspace{{
		Slug: "acme", UUID: bitbuckettest.Braced(h.acme.UUID), Issuer: h.acme.Issuer(), Audiences: []string{audience, tokentest.SecondAudience},
	}}}
	d := Deps{Transport: h.server.Client().Transport, Log: slog.New(slog.NewTextHandler(h, nil)), Hooks: Hooks{
		KeysFetched: func(string, time.Duration, error) {
			h.fetchesMu.Lock()
			defer h.fetchesMu.Unlock()
			h.fetches++
		},
	}}
	if change != nil {
		change(h, &c, &d)
	}
	a, err := New(c, d)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// asking configures an authenticator that may ask the issuer for a key again at
// once, so that a test need not wait between two tokens of unknown keys.
func asking(_ *env, c *Config, _ *Deps) { c.KeyFetchFloor = time.Microsecond }

// floor lets so much time pass that the issuer may be asked again.
func floor() { time.Sleep(time.Microsecond) }

// withAPI configures names.
func withAPI(h *env, c *Config, _ *Deps) {
	c.Workspaces[0].API = &bitbucketapi.Config{URL: h.server.APIURL(), Token: func() (string, error) { return bitbuckettest.FixtureToken, nil }}
}

func (h *env) token(s *bitbuckettest.Step) string {
	return s.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}})
}

func (h *env) ask(token string) (*identity.Principal, error) {
	return h.auth.Authenticate(context.Background(), identity.NewCredential(token))
}

// accepts fails the test unless the token is accepted.
func (h *env) accepts(token string) *identity.Principal {
	h.t.Helper()
	p, err := h.ask(token)
	if err != nil {
		h.t.Fatalf("refused: %v", err)
	}
	return p
}

// refuses fails the test unless the token is refused for this problem.
func (h *env) refuses(token string, want identity.Problem) *identity.Error {
	h.t.Helper()
	p, err := h.ask(token)
	e, ok := errors.AsType[*identity.Error](err)
	if !ok || e.Problem != want || p != nil {
		h.t.Fatalf("got %v, %v; want %s", p, err, want)
	}
	return e
}

// newForge makes a forger of this env's tokens, at this moment.
func newForge(h *env) *tokentest.Forge {
	return tokentest.NewForge(h.server, h.step, h.plain, time.Now())
}
