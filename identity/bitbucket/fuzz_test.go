package bitbucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/tokentest"
	"github.com/sallyport/sallyport/internal/uuid"
)

// FuzzToken holds that what the strict reader accepts means the same to go-jose
// and go-oidc, claim by claim, and that it is the only spelling of itself.
func FuzzToken(f *testing.F) {
	h := build(f, nil)
	maker := newForge(h)
	for _, r := range tokentest.Rows {
		f.Add(r.Make(maker))
	}
	f.Fuzz(func(t *testing.T, raw string) {
		tok, refused := parseToken(raw, 0)
		if refused != nil {
			if refused.Problem == "" || refused.Detail == "" || !utf8.ValidString(refused.Detail) {
				t.Fatalf("refused with %#v", refused)
			}
			return
		}
		jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatalf("go-jose refuses what is accepted: %v", err)
		}
		if got := jws.UnsafePayloadWithoutVerification(); !bytes.Equal(got, tok.payload) {
			t.Fatalf("go-jose reads the payload %q, and we %q", got, tok.payload)
		}
		if s := jws.Signatures; len(s) != 1 || s[0].Header.KeyID != tok.keyID || s[0].Header.Algorithm != algorithm {
			t.Fatalf("go-jose reads the header %+v, and we kid %q", s, tok.keyID)
		}
		if again, err := jws.CompactSerialize(); err != nil || again != raw {
			t.Fatalf("go-jose spells %q as %q, %v", raw, again, err)
		}
		c, refused := readClaims(tok.members, 0)
		if refused != nil {
			return
		}
		checkClaimsShape(t, c)
		agree(t, raw, tok, c)
	})
}

// agree compares with go-oidc, which reads without verifying.
func agree(t *testing.T, raw string, tok *token, c *claims) {
	v := oidc.NewVerifier(tok.issuer, nil, &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, InsecureSkipSignatureCheck: true})
	id, err := v.Verify(context.Background(), raw)
	if err != nil {
		return // refused there is refused here: verify asks go-oidc as well
	}
	if id.Issuer != tok.issuer || id.Subject != c.subject || !slices.Equal(id.Audience, c.audiences) {
		t.Fatalf("go-oidc reads %q %q %q, and we %q %q %q", id.Issuer, id.Subject, id.Audience, tok.issuer, c.subject, c.audiences)
	}
	// A fraction that float64 rounds up may make it a second later there.
	for _, pair := range [][2]time.Time{{id.Expiry, c.expires}, {id.IssuedAt, c.issued}} {
		if d := pair[0].Sub(pair[1]); d < 0 || d > time.Second {
			t.Fatalf("go-oidc reads the time %v, and we %v", pair[0], pair[1])
		}
	}
	var others struct {
		Repository string `json:"repositoryUuid"`
		Workspace  string `json:"workspaceUuid"`
		Deployment string `json:"deploymentEnvironmentUuid"`
		Branch     string `json:"branchName"`
	}
	if err := id.Claims(&others); err != nil {
		t.Fatalf("encoding/json cannot read the claims: %v", err)
	}
	bare := func(s string) string { u, _ := uuid.Parse(s); return u }
	if bare(others.Repository) != c.repository || bare(others.Workspace) != c.workspace ||
		bare(others.Deployment) != c.deployment || others.Branch != c.branch {
		t.Fatalf("encoding/json reads %+v, and we %+v", others, c)
	}
}

func checkClaimsShape(t *testing.T, c *claims) {
	for _, u := range []string{c.workspace, c.repository, c.pipeline, c.step, c.deployment} {
		if again, ok := uuid.Parse(u); u != "" && (!ok || again != u) {
			t.Fatalf("UUID %q is not normal", u)
		}
	}
	if !printable.IsClean(c.branch) || strings.ContainsAny(c.branch, "\x00\r\n\u202e") || len(c.branch) > maxBranch {
		t.Fatalf("branch %q", c.branch)
	}
	if len(c.audiences) == 0 || len(c.audiences) > maxTokenAudiences || c.expires.Year() > 9999 {
		t.Fatalf("claims %+v", c)
	}
}

// FuzzKeys holds that no answer of an issuer makes a weak key, and that what is
// kept on disk is read back as it was.
func FuzzKeys(f *testing.F) {
	h := build(f, nil)
	jwk, err := json.Marshal(map[string]any{"keys": []any{h.acme.Key().JWK(), h.server.NewKey("", "ES256").JWK()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(jwk))
	f.Add(`{"keys":[]}`)
	f.Add(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`)
	f.Add(`{"issuer":"https://i.example","jwks_uri":"https://i.example/keys.json"}`)
	f.Add(`{"issuer":"https://i.example","jwks_uri":"https://i.example@evil.example/keys.json"}`)
	f.Add(`{"version":1,"issuer":"https://i.example","fetched":"2026-01-01T00:00:00Z","jwks":{"keys":[]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		if uri, err := parseDiscovery([]byte(body), "https://i.example"); err == nil && !strings.HasPrefix(uri, "https://i.example/") && uri != "https://i.example" {
			t.Fatalf("jwks_uri %q is elsewhere", uri)
		}
		if st, err := parseKeyDocument([]byte(body), "https://i.example", time.Unix(1<<31, 0)); err == nil && (st.issuer != "https://i.example" || !st.fromDisk) {
			t.Fatalf("got %+v", st)
		}
		keys, _, err := parseKeys([]byte(body))
		if err != nil {
			return
		}
		if len(keys) > maxKeys {
			t.Fatalf("%d keys", len(keys))
		}
		for id, k := range keys {
			if id == "" || id != k.id || k.public.N.BitLen() < minRSABits || k.public.E < 65537 {
				t.Fatalf("key %q: %+v", id, k)
			}
		}
	})
}

func TestParseKeys(t *testing.T) {
	h := build(t, nil)
	good := h.acme.Key().JWK()
	change := func(pairs ...any) map[string]any {
		k := map[string]any{}
		for n, v := range good {
			k[n] = v
		}
		for i := 0; i < len(pairs); i += 2 {
			if k[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
				delete(k, pairs[i].(string))
			}
		}
		return k
	}
	n := good["n"].(string)
	other := h.server.NewKey(h.acme.Key().ID, "RS256").JWK()
	for _, test := range []struct {
		name         string
		keys         []any
		want, passed int
	}{
		{"as published", []any{good}, 1, 0},
		{"no alg, no use (RFC 7517 4.2, 4.4)", []any{change("alg", nil, "use", nil)}, 1, 0},
		{"key_ops verify (RFC 7517 4.3)", []any{change("key_ops", []string{"verify"})}, 1, 0},
		{"the same twice", []any{good, good}, 1, 0},
		{"one id, two keys (RFC 7517 4.5)", []any{good, other}, 0, 1},
		{"x5c that is not a certificate", []any{change("x5c", []string{""})}, 1, 0},
		{"x5c of another form", []any{change("x5c", "MIIC")}, 1, 0},
		{"x5t that is not a digest", []any{change("x5t", "?", "x5t#S256", 7)}, 1, 0},
		{"x5u that is not a URL", []any{change("x5u", "::")}, 1, 0},
		{"padded exponent", []any{change("e", "AQAB==")}, 1, 0},
		{"private", []any{change("d", "AQAB")}, 0, 1},
		{"n of another alphabet", []any{change("n", "+/+/")}, 0, 1},
		{"no kid", []any{change("kid", nil)}, 0, 1},
		{"for encryption", []any{change("use", "enc")}, 0, 1},
		{"for signing only", []any{change("key_ops", []string{"sign"})}, 0, 1},
		{"for RS512", []any{change("alg", "RS512")}, 0, 1},
		{"1024 bits (RFC 7518 3.3)", []any{change("n", n[:171])}, 0, 1},
		{"a modulus too long", []any{change("n", strings.Repeat(n, 5))}, 0, 1},
		{"an even modulus", []any{change("n", n[:len(n)-2]+"AA")}, 0, 1},
		{"exponent 1", []any{change("e", "AQ")}, 0, 1},
		{"exponent 3 (FIPS 186-5 A.1.1)", []any{change("e", "Aw")}, 0, 1},
		{"exponent even", []any{change("e", "AQAC")}, 0, 1},
		{"exponent endless", []any{change("e", strings.Repeat("A", 40)+"B")}, 0, 1},
		{"symmetric", []any{map[string]any{"kty": "oct", "kid": "x", "k": "c2VjcmV0"}}, 0, 1},
		{"elliptic beside RSA", []any{h.server.NewKey("", "ES256").JWK(), good}, 1, 1},
		{"garbage beside RSA (RFC 7517 5)", []any{"x", 1, nil, good}, 1, 3},
	} {
		body, err := json.Marshal(map[string]any{"keys": test.keys})
		if err != nil {
			t.Fatal(err)
		}
		keys, skipped, err := parseKeys(body)
		if err != nil || len(keys) != test.want || len(skipped) != test.passed {
			t.Errorf("%s: got %d keys, %v skipped, %v", test.name, len(keys), skipped, err)
		}
	}
	if _, _, err := parseKeys([]byte(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`)); err == nil {
		t.Error("101 keys were read")
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		return Config{Workspaces: []Workspace{{Slug: "acme", UUID: bitbuckettest.Braced("922E118C-f34f-4226-a897-0e0afbec553d"),
			Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", Audiences: []string{"x"},
			API: &bitbucketapi.Config{URL: "https://api.bitbucket.org/2.0", Token: func() (string, error) { return "", errors.New("unused") }}}}}
	}
	if _, err := New(good(), Deps{}); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"no workspace is configured": func(c *Config) { c.Workspaces = nil },
		"is not a UUID":              func(c *Config) { c.Workspaces[0].UUID = "acme" },
		"slug is missing":            func(c *Config) { c.Workspaces[0].Slug = "" },
		"loopback address only":      func(c *Config) { c.Workspaces[0].Issuer = "http://bitbucket.example/oidc" },
		"not an https URL":           func(c *Config) { c.Workspaces[0].Issuer = "ftp://bitbucket.example/oidc" },
		"not an absolute URL":        func(c *Config) { c.Workspaces[0].Issuer = "api.bitbucket.org" },
		"user or password":           func(c *Config) { c.Workspaces[0].Issuer = "https://a:b@x.example/oidc" },
		"query or fragment":          func(c *Config) { c.Workspaces[0].Issuer += "?x" },
		"ends in a slash":            func(c *Config) { c.Workspaces[0].Issuer += "/" },
		"configured twice":           func(c *Config) { c.Workspaces = append(c.Workspaces, c.Workspaces[0]) },
		"no audience is configured":  func(c *Config) { c.Workspaces[0].Audiences = nil },
		"has control characters":     func(c *Config) { c.Workspaces[0].Audiences = []string{"a\nb"} },
		"no access token":            func(c *Config) { c.Workspaces[0].API.Token = nil },
		"api:":                       func(c *Config) { c.Workspaces[0].API.URL = "http://api.example" },
		"requests per hour":          func(c *Config) { c.Workspaces[0].API.RequestsPerHour = -1 },
		"leeway is":                  func(c *Config) { c.Leeway = time.Hour },
		"maximum lifetime is":        func(c *Config) { c.MaxLifetime = -1 },
		"key maximum age 1m0s":       func(c *Config) { c.KeyMaxAge, c.KeyRefresh = time.Minute, time.Hour },
		"name maximum age 1m0s":      func(c *Config) { c.NameMaxAge, c.NameRefresh = time.Minute, time.Hour },
		"cache entries":              func(c *Config) { c.CacheEntries = -1 },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c, Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if c := (Config{Leeway: -1}).withDefaults(); c.Leeway != 0 {
		t.Errorf("no leeway became %v", c.Leeway)
	}
}
