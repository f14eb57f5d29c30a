package bitbuckettest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
)

func verifier(t *testing.T, s *Server, w *Workspace, audience string) *oidc.IDTokenVerifier {
	t.Helper()
	ctx := oidc.ClientContext(context.WithoutCancel(t.Context()), s.Client())
	p, err := oidc.NewProvider(ctx, w.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	return p.Verifier(&oidc.Config{ClientID: audience})
}

// A relying party that knows nothing of Bitbucket accepts the tokens.
func TestTokenVerifies(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	production := r.AddEnvironment("Production EU", Production)
	p := r.Run("main")
	deploy, build, tagged := p.Step(production), p.Step(nil), r.RunTag("v1").Step(nil)

	for _, c := range []struct {
		name     string
		step     *Step
		options  TokenOptions
		audience string
		aud      any
	}{
		{"default audience", build, TokenOptions{}, w.DefaultAudience(), w.DefaultAudience()},
		{"deployment", deploy, TokenOptions{}, w.DefaultAudience(), w.DefaultAudience()},
		{"tag", tagged, TokenOptions{}, w.DefaultAudience(), w.DefaultAudience()},
		{"one", build, TokenOptions{Audiences: []string{"a"}}, "a", "a"},
		{"one in an array", build, TokenOptions{Audiences: []string{"a"}, AudienceArray: true}, "a", []any{"a"}},
		{"two", build, TokenOptions{Audiences: []string{"a", "b"}}, "b", []any{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			issued := time.Now().Truncate(time.Second)
			c.options.IssuedAt = issued
			id, err := verifier(t, s, w, c.audience).Verify(t.Context(), c.step.Token(c.options))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := id.Claims(&got); err != nil {
				t.Fatal(err)
			}
			run := c.step.Pipeline
			want := map[string]any{
				"iss": s.BaseURL() + "/2.0/workspaces/acme/pipelines-config/identity/oidc",
				"aud": c.aud, "sub": "{" + r.UUID + "}:{" + c.step.UUID + "}",
				"iat": float64(issued.Unix()), "exp": float64(issued.Add(DefaultLifetime).Unix()),
				"stepUuid": "{" + c.step.UUID + "}", "repositoryUuid": "{" + r.UUID + "}",
				"pipelineUuid": "{" + run.UUID + "}", "workspaceUuid": "{" + w.UUID + "}",
			}
			if run.Branch != "" {
				want["branchName"] = "main"
			}
			if c.step == deploy {
				want["deploymentEnvironmentUuid"] = "{" + production.UUID + "}"
				want["sub"] = "{" + r.UUID + "}:{" + production.UUID + "}:{" + deploy.UUID + "}"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if want := "ari:cloud:bitbucket::workspace/" + w.UUID; w.DefaultAudience() != want {
		t.Errorf("default audience %s, want %s", w.DefaultAudience(), want)
	}
}

func TestTokenRefused(t *testing.T) {
	s, w := start(t, Options{})
	step := w.AddRepository("payments", "PAY").Run("main").Step(nil)
	foreign := s.AddWorkspace("other").AddRepository("payments", "PAY").Run("main").Step(nil)
	v := verifier(t, s, w, "a")
	audiences := []string{"a"}
	for name, raw := range map[string]string{
		"expired":         step.Token(TokenOptions{Audiences: audiences, Lifetime: -time.Minute}),
		"other audience":  step.Token(TokenOptions{Audiences: []string{"b"}}),
		"other workspace": foreign.Token(TokenOptions{Audiences: audiences}),
		"other issuer's key": step.Token(TokenOptions{
			Audiences: audiences, Key: s.Workspace("other").Key(), Header: map[string]any{"kid": w.Key().ID}}),
		"edited issuer": step.Token(TokenOptions{
			Audiences: audiences, Edit: func(c map[string]any) { c["iss"] = "https://evil.example" }}),
	} {
		if _, err := v.Verify(t.Context(), raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := v.Verify(t.Context(), step.Token(TokenOptions{Audiences: audiences})); err != nil {
		t.Errorf("an honest one: %v", err)
	}
}

func TestDiscoveryByUUIDAndAfterRename(t *testing.T) {
	s, w := start(t, Options{})
	oidcPath := "/pipelines-config/identity/oidc/.well-known/openid-configuration"
	byUUID := get(t, s, "/workspaces/%7B"+strings.ToUpper(w.UUID)+"%7D"+oidcPath, "")
	if byUUID.at("issuer") != w.Issuer() || byUUID.at("jwks_uri") != w.Issuer()+"/keys.json" {
		t.Errorf("by UUID: %s", byUUID.body)
	}
	before := w.Issuer()
	w.Rename("acme-two")
	if w.Issuer() == before {
		t.Error("the issuer outlived the slug")
	}
	if r := get(t, s, "/workspaces/acme"+oidcPath, ""); r.status != 404 {
		t.Errorf("the old slug: status %d", r.status)
	}
	if r := get(t, s, "/workspaces/acme-two"+oidcPath, ""); r.at("issuer") != w.Issuer() {
		t.Errorf("the new slug: %s", r.body)
	}
	w.SetOIDC(false)
	for _, url := range []string{"/.well-known/openid-configuration", "/keys.json"} {
		if r := get(t, s, w.Issuer()+url, ""); r.status != 404 {
			t.Errorf("disabled: %s: status %d", url, r.status)
		}
	}
}

func TestRotation(t *testing.T) {
	s, w := start(t, Options{})
	step := w.AddRepository("payments", "PAY").Run("main").Step(nil)
	first := w.Key()
	old := step.Token(TokenOptions{})
	second := w.RotateKey(true)
	verify := func(raw string) error {
		t.Helper()
		_, err := verifier(t, s, w, w.DefaultAudience()).Verify(t.Context(), raw)
		return err
	}
	for name, raw := range map[string]string{"old": old, "new": step.Token(TokenOptions{})} {
		if err := verify(raw); err != nil {
			t.Errorf("overlap: %s key: %v", name, err)
		}
	}
	if !w.RemoveKey(first.ID) || w.RemoveKey(first.ID) {
		t.Error("the first key was not withdrawn once")
	}
	if verify(old) == nil {
		t.Error("a withdrawn key verifies")
	}
	third := w.RotateKey(false)
	if !slices.Equal(w.Keys(), []*Key{third}) || second == third {
		t.Errorf("after a rotation without overlap: %v", w.Keys())
	}
	if err := verify(step.Token(TokenOptions{})); err != nil {
		t.Error(err)
	}
}

// Every algorithm's signature is a true one: only the relying party's list of
// algorithms stands between these tokens and acceptance.
func TestSignatures(t *testing.T) {
	s, w := start(t, Options{})
	step := w.AddRepository("payments", "PAY").Run("main").Step(nil)
	ec, ed := s.NewKey("ec", "ES256"), s.NewKey("", "EdDSA")
	w.Publish(ec)
	w.Publish(ed)
	payload, err := json.Marshal(step.Claims(TokenOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "EdDSA"}
	provider, err := oidc.NewProvider(oidc.ClientContext(t.Context(), s.Client()), w.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	lax := provider.Verifier(&oidc.Config{ClientID: w.DefaultAudience(), SupportedSigningAlgs: all})
	for _, alg := range all {
		key := w.Key()
		switch alg {
		case "ES256":
			key = ec
		case "EdDSA":
			key = ed
		}
		header, err := json.Marshal(map[string]any{"alg": alg, "kid": key.ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lax.Verify(t.Context(), key.SignRaw(alg, header, payload)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	strict := provider.Verifier(&oidc.Config{ClientID: w.DefaultAudience()})
	if _, err := strict.Verify(t.Context(), ec.Sign(nil, step.Claims(TokenOptions{}))); err == nil {
		t.Error("ES256 passes where only RS256 is allowed")
	}
}

func TestSignedBytesAreExact(t *testing.T) {
	_, w := start(t, Options{})
	header, payload := []byte(`{"alg":"none","alg":"RS256"}`), []byte(`{"iss":1,"ISS":"\u0000"} `)
	for name, raw := range map[string]string{
		"RSA":      w.Key().SignRaw("", header, payload),
		"HMAC":     SignHMAC("HS256", w.Key().PublicPEM(), header, payload),
		"unsigned": Compact(header, payload, nil),
	} {
		parts := strings.Split(raw, ".")
		if len(parts) != 3 || parts[0]+"."+parts[1] != signingInput(header, payload) {
			t.Errorf("%s: %s", name, raw)
		}
		if (parts[2] == "") != (name == "unsigned") {
			t.Errorf("%s: signature %q", name, parts[2])
		}
	}
}

func TestSeed(t *testing.T) {
	create := func(seed uint64) map[string]string {
		s, err := New(Options{Seed: seed, BaseURL: "http://bitbucket.example"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := s.AddWorkspace("acme")
		r := w.AddRepository("payments", "PAY")
		p := r.Run("main")
		return map[string]string{"w": w.UUID, "r": r.UUID, "p": p.UUID, "s": p.Step(nil).UUID, "c": p.Commit, "k": w.Key().ID}
	}
	if a, b := create(7), create(7); !maps.Equal(a, b) {
		t.Errorf("one seed, two models: %v %v", a, b)
	}
	if a, b := create(0), create(0); a["w"] == b["w"] {
		t.Error("without a seed two workspaces have one UUID")
	}
}
