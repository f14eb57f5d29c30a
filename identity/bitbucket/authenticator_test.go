package bitbucket

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func TestPrincipal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		token := h.token(h.step)
		got := h.accepts(token)
		want := &identity.Principal{
			Kind: identity.KindBitbucketStep, Issuer: h.acme.Issuer(),
			Workspace:  identity.Workspace{UUID: h.acme.UUID},
			Repository: identity.Repository{UUID: h.payments.UUID},
			Deployment: &identity.Deployment{UUID: h.eu.UUID},
			Pipeline:   identity.Run{UUID: h.step.Pipeline.UUID},
			Step:       identity.Run{UUID: h.step.UUID},
			Branch:     "main", CredentialKind: identity.CredentialOIDC,
			CredentialDigest: identity.NewCredential(token).Digest(),
			Expires:          got.Expires,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if h.accepts(token) != got {
			t.Error("a repeated token made another principal")
		}
		if p := h.accepts(h.token(h.plain)); p.Deployment != nil {
			t.Errorf("a step that deploys nothing has deployment %v", p.Deployment)
		}
		h.refuses("", identity.CredentialMissing)
	})
}

func TestPrincipalWithNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		p := h.accepts(h.token(h.step))
		if p.Workspace.Slug != "acme" || p.Repository.FullName != "acme/payments" || p.Repository.Project != "PAY" {
			t.Errorf("got %+v", p)
		}
		want := &identity.Deployment{UUID: h.eu.UUID, Name: "Production EU", Slug: "production-eu", Type: "production"}
		if d := cmp.Diff(want, p.Deployment); d != "" {
			t.Error(d)
		}
	})
}

// TestOverRealSockets uses the transport of its own, which must take no proxy
// from the environment: Sallyport's own may point at Sallyport.
func TestOverRealSockets(t *testing.T) {
	server, err := bitbuckettest.New(bitbuckettest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := server.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	acme := server.AddWorkspace("acme")
	acme.SetAccessTokens("access-token")
	a, err := New(Config{Workspaces: []Workspace{{
		Slug: "acme", UUID: acme.UUID, Issuer: acme.Issuer(), Audiences: []string{audience},
		API: &bitbucketapi.Config{URL: server.APIURL(), Token: func() (string, error) { return "access-token", nil }},
	}}, StateDirectory: t.TempDir()}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := acme.AddRepository("payments", "PAY").Run("main").Step(nil).Token(bitbuckettest.TokenOptions{Audiences: []string{audience}})
	p, err := a.Authenticate(t.Context(), identity.NewCredential(token))
	if err != nil || p.Repository.FullName != "acme/payments" {
		t.Fatalf("got %+v, %v", p, err)
	}
}

// TestManyWorkspaces holds that workspaces do not answer for one another, and
// that one whose issuer is unavailable does not stop the others.
func TestManyWorkspaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var evil *bitbuckettest.Workspace
		h := build(t, func(h *env, c *Config, _ *Deps) {
			evil = h.server.AddWorkspace("beta")
			c.Workspaces = append(c.Workspaces, Workspace{Slug: "beta", UUID: evil.UUID, Issuer: evil.Issuer(), Audiences: []string{"beta"}})
		})
		step := evil.AddRepository("r", "P").Run("main").Step(nil)
		if p := h.accepts(step.Token(bitbuckettest.TokenOptions{Audiences: []string{"beta"}})); p.Workspace.UUID != evil.UUID {
			t.Errorf("got %+v", p)
		}
		h.accepts(h.token(h.step))
		h.refuses(step.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}}), identity.CredentialAudience)
		// Each signs for the other: the key is not the issuer's.
		h.refuses(evil.Key().Sign(map[string]any{"kid": h.acme.Key().ID}, h.step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}})), identity.CredentialSignature)
		// Its own issuer vouches for it, but it is of another workspace.
		claims := step.Claims(bitbuckettest.TokenOptions{Audiences: []string{"beta"}})
		claims["workspaceUuid"] = bitbuckettest.Braced(h.acme.UUID)
		h.refuses(evil.Key().Sign(nil, claims), identity.CredentialWorkspace)

		evil.SetOIDC(false)
		again := h.authenticator(func(_ *env, c *Config, _ *Deps) { *c = h.auth.config })
		if err := again.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "beta") || strings.Contains(err.Error(), "acme:") {
			t.Errorf("got %v", err)
		}
		if err := again.Begin(t.Context()); err != nil {
			t.Errorf("one workspace keeps the process from starting: %v", err)
		}
		if err := again.Ready(); err != nil {
			t.Errorf("one workspace stops all: %v", err)
		}
		if err := again.Warning(); err == nil || !strings.Contains(err.Error(), "workspace beta: no keys of issuer") || strings.Contains(err.Error(), "acme") {
			t.Errorf("the warning is %v", err)
		}
		h.acme.SetOIDC(false)
		alone := h.authenticator(func(_ *env, c *Config, _ *Deps) { *c = h.auth.config })
		if err := alone.Begin(t.Context()); err == nil || !strings.Contains(err.Error(), "beta") || !strings.Contains(err.Error(), "acme") {
			t.Errorf("without any keys: %v", err)
		}
		alone.Close()
		again.Close()
	})
}

// TestWorkspaceOfAnotherUUID: a workspace_uuid that is not the workspace's is found
// at the start, where the API can be asked, and named with the remedy.
func TestWorkspaceOfAnotherUUID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		other := h.server.AddWorkspace("beta")
		other.SetAccessTokens("beta-token")
		for _, c := range []struct{ name, slug, uuid, token, check, begin string }{
			{"right", "acme", h.acme.UUID, "access-token", "", ""},
			{"of another workspace", "acme", other.UUID, "beta-token", `is that of the workspace "beta": correct workspace_uuid`, `is that of the workspace "beta"`},
			{"of none", "acme", "11111111-2222-3333-4444-555555555555", "access-token", "knows no workspace", "knows no workspace"},
			{"wrong slug", "acmee", h.acme.UUID, "access-token", "correct workspace_uuid, or workspace", "is that of the workspace"},
			{"wrong token", "acme", h.acme.UUID, "wrong", "access token", ""},
		} {
			a := h.authenticator(func(_ *env, conf *Config, _ *Deps) {
				conf.Workspaces[0].Slug, conf.Workspaces[0].UUID = c.slug, c.uuid
				conf.Workspaces[0].API = &bitbucketapi.Config{URL: h.server.APIURL(), Token: func() (string, error) { return c.token, nil }}
			})
			checked := a.CheckAPI(t.Context())
			if err := a.Begin(t.Context()); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			for what, got := range map[string]struct {
				err  error
				want string
			}{"check": {checked, c.check}, "warning": {a.Warning(), c.begin}} {
				if got.want == "" && got.err != nil || got.want != "" && (got.err == nil || !strings.Contains(got.err.Error(), got.want)) {
					t.Errorf("%s: %s: %v, want %q", c.name, what, got.err, got.want)
				}
			}
			a.Close()
		}
	})
}

// TestSkippedKeysAreReported: once, with the reason.
func TestSkippedKeysAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		keys, err := json.Marshal(map[string]any{"keys": []any{h.acme.Key().JWK(), map[string]any{"kty": "EC", "kid": "other"}}})
		if err != nil {
			t.Fatal(err)
		}
		h.server.Inject(bitbuckettest.Keys, bitbuckettest.Replaced(string(keys)))
		for range 2 {
			if err := h.auth.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		h.logMu.Lock()
		defer h.logMu.Unlock()
		if n := strings.Count(h.log.String(), "key 2: not a public RSA key"); n != 1 {
			t.Errorf("reported %d times: %s", n, h.log.String())
		}
		if s := h.auth.Status()[0]; s.Keys != 1 || len(s.Skipped) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		h := build(t, func(h *env, c *Config, d *Deps) {
			withAPI(h, c, d)
			d.Hooks = Hooks{
				Verified: func(w string, again bool) { told = append(told, fmt.Sprint("verified ", w, " ", again)) },
				Refused: func(w string, p identity.Problem, check string) {
					told = append(told, fmt.Sprint("refused ", w, " ", p, " ", check))
				},
				KeysFetched: func(w string, _ time.Duration, err error) { told = append(told, fmt.Sprint("keys ", w, " ", err)) },
				NamesFetched: func(w, what string, _ time.Duration, err error) {
					told = append(told, fmt.Sprint("names ", w, " ", what, " ", err))
				},
			}
		})
		token := h.token(h.plain)
		h.accepts(token)
		h.accepts(token)
		h.refuses("x", identity.CredentialMalformed)
		h.refuses(h.plain.Token(bitbuckettest.TokenOptions{}), identity.CredentialAudience)
		want := []string{"keys acme <nil>", "names acme repository <nil>", "verified acme false", "verified acme true",
			"refused  credential_malformed form", "refused acme credential_audience audience"}
		if d := cmp.Diff(want, told); d != "" {
			t.Error(d)
		}
	})
}
