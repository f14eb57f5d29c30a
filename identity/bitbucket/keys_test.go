package bitbucket

import (
	"context"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// TestFloodOfForgedTokens sends two hundred tokens a second for a minute, each
// naming a key of its own: the issuer sees one fetch in five seconds at most,
// and the steps continue.
func TestFloodOfForgedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		stranger := h.server.NewKey("", "RS256")
		claims := h.step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: 2 * time.Hour})
		good := h.step.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: 2 * time.Hour})
		forged := strings.Split(stranger.Sign(nil, claims), ".")
		flood := func(seconds, perSecond int, at string) {
			for s := range seconds {
				for i := range perSecond {
					head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"` + at + strconv.Itoa(s*perSecond+i) + `"}`))
					if problem, _ := outcome(h.auth, head+"."+forged[1]+"."+forged[2]); problem != identity.CredentialKeyUnknown && problem != identity.KeysUnavailable {
						t.Fatalf("a forged token came out as %q", problem)
					}
				}
				h.accepts(good)
				time.Sleep(time.Second)
			}
		}
		before := h.server.Count(bitbuckettest.Keys)
		flood(60, 200, "first")
		if n := h.server.Count(bitbuckettest.Keys) - before; n > 13 {
			t.Errorf("%d fetches in a minute", n)
		}
		// Beyond the burst it is one a minute, since Bitbucket answers 60
		// anonymous requests an hour; and a rotation is still found within one.
		before = h.server.Count(bitbuckettest.Keys)
		flood(600, 3, "second")
		if n := h.server.Count(bitbuckettest.Keys) - before; n > 13 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		h.acme.RotateKey(true)
		fresh := h.token(h.plain)
		begun := time.Now()
		for problem := identity.Problem("?"); problem != ""; problem, _ = outcome(h.auth, fresh) {
			flood(1, 3, "third"+strconv.FormatInt(time.Now().Unix(), 10)+"-")
		}
		if duration := time.Since(begun); duration > 62*time.Second {
			t.Errorf("a rotation under a flood took %v", duration)
		}
	})
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		old := h.token(h.step)
		h.accepts(old)
		h.acme.RotateKey(true)
		fresh := h.token(h.plain)
		// The issuer was asked a moment ago and is not asked again at once: the token
		// is refused for now, and not as forged. It is accepted later.
		for range 3 {
			if e := h.refuses(fresh, identity.KeysUnavailable); !strings.Contains(e.Detail, "if it is new, try again") {
				t.Errorf("got %q", e.Detail)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		h.accepts(fresh)
		h.accepts(old)

		// Without overlap: the old key dies at the next fetch, its tokens with it.
		h.acme.RotateKey(false)
		h.accepts(old)
		time.Sleep(5 * time.Second)
		h.accepts(h.token(h.step))
		h.refuses(old, identity.CredentialKeyUnknown)
		h.refuses(fresh, identity.CredentialKeyUnknown)
	})
}

// TestBackground holds that Run alone finds a rotation and a withdrawal.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = h.auth.Run(ctx) })
		synctest.Wait()
		if s := h.auth.Status()[0]; !s.KeysUsable || s.Keys != 1 || s.FromDisk || h.auth.Ready() != nil {
			t.Errorf("got %+v", s)
		}
		token := h.token(h.step)
		h.accepts(token)
		h.acme.RotateKey(false)
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		fetches := h.server.Count(bitbuckettest.Keys)
		h.refuses(token, identity.CredentialKeyUnknown)
		h.accepts(h.token(h.plain))
		if n := h.server.Count(bitbuckettest.Keys); n > fetches+1 {
			t.Errorf("%d fetches for what was known", n-fetches)
		}
		cancel()
		running.Wait()
	})
}

// TestIssuerUnavailable walks through an outage: known keys serve up to their maximum
// age, unknown ones are "unavailable" and not "unknown", then all is well again.
func TestIssuerUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = h.auth.Run(ctx) })
		synctest.Wait()

		long := bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: 12 * time.Hour}
		known := h.step.Token(long)
		h.server.Stop()
		h.acme.RotateKey(false)
		fresh := h.plain.Token(long)
		for range 11 {
			time.Sleep(time.Hour)
			h.accepts(known)
			e := h.refuses(fresh, identity.KeysUnavailable)
			if !e.Problem.Unavailable() || e.Err == nil {
				t.Fatalf("got %v", e)
			}
		}
		if s := h.auth.Status()[0]; s.KeysError == nil || !s.KeysUsable {
			t.Errorf("got %+v", s)
		}
		time.Sleep(13*time.Hour + time.Minute)
		h.refuses(h.token(h.step), identity.KeysUnavailable)
		if h.auth.Ready() == nil {
			t.Error("ready without any key")
		}
		if err := h.server.StartInMemory(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		h.accepts(h.token(h.step))
		if err := h.auth.Ready(); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})
}

// TestMaximumAgeEndsRemembered holds that keys that are too old end what was
// verified with them.
func TestMaximumAgeEndsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, func(_ *env, c *Config, _ *Deps) { c.KeyMaxAge, c.KeyRefresh = 10*time.Minute, 5*time.Minute })
		token := h.token(h.step)
		h.accepts(token)
		h.server.Stop()
		time.Sleep(9 * time.Minute)
		h.accepts(token)
		time.Sleep(time.Minute)
		h.refuses(token, identity.KeysUnavailable)
	})
}

// TestOneFetchForAll holds that callers wait for one fetch, that the one who
// caused it may go, and that it is bounded in time.
func TestOneFetchForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		hanging := h.server.Inject(bitbuckettest.OIDC, bitbuckettest.Hanging())
		token := h.token(h.step)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := h.auth.Authenticate(ctx, identity.NewCredential(token)); err == nil {
				t.Error("accepted without keys")
			}
		})
		synctest.Wait()
		for range 50 {
			all.Go(func() { h.accepts(token) })
		}
		synctest.Wait()
		cancel() // the first caller hangs up
		synctest.Wait()
		hanging.Clear()
		all.Wait()
		if n := h.server.Count(bitbuckettest.Keys); n != 1 {
			t.Errorf("%d fetches", n)
		}

		// Another env, whose issuer never answers.
		h2 := build(t, nil)
		defer h2.server.Inject(bitbuckettest.OIDC, bitbuckettest.Hanging()).Clear()
		begun := time.Now()
		h2.refuses(h2.token(h2.step), identity.KeysUnavailable)
		if duration := time.Since(begun); duration > 3*time.Second {
			t.Errorf("waited %v", duration)
		}
	})
}

// TestNoRequestForStrangers holds that a token of an issuer that is not
// configured, or that could never be accepted, causes no request.
func TestNoRequestForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		for _, r := range tokentest.Rows {
			switch r.Check {
			case "issuer", "form", "size", "base64", "json", "duplicates", "case", "algorithm",
				"header", "type", "key_id", "claims", "times", "text", "expiry":
				if r.Problem == "" {
					continue
				}
				if problem, _ := outcome(h.auth, r.Make(f)); problem != r.Problem {
					t.Errorf("%s: got %q", r.Name, problem)
				}
			}
		}
		if n := h.server.Count(bitbuckettest.Any); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestBadIssuers holds that what is wrong with an issuer ends the start, in one
// message that names the workspace, the issuer and the cause.
func TestBadIssuers(t *testing.T) {
	edit := func(from, to string) bitbuckettest.Fault {
		return bitbuckettest.Fault{Edit: func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), from, to)) }}
	}
	tests := []struct {
		name     string
		endpoint bitbuckettest.Endpoint
		fault    bitbuckettest.Fault
		want     string
	}{
		{"discovery missing", bitbuckettest.Discovery, bitbuckettest.Failing(404), "returned 404"},
		{"another issuer", bitbuckettest.Discovery, edit("workspaces/acme", "workspaces/evil"), "is that of issuer"},
		{"keys elsewhere", bitbuckettest.Discovery, bitbuckettest.Fault{Edit: func([]byte) []byte {
			return []byte(`{"issuer":"http://127.0.0.1/2.0/workspaces/acme/pipelines-config/identity/oidc","jwks_uri":"https://evil.example/keys.json"}`)
		}}, "not on the issuer's host"},
		{"no RS256", bitbuckettest.Discovery, edit("RS256", "ES256"), "does not sign with RS256"},
		{"discovery redirected", bitbuckettest.Discovery, bitbuckettest.Redirecting("https://evil.example/x"), "redirected to another host"},
		{"keys redirected", bitbuckettest.Keys, bitbuckettest.Redirecting("http://127.0.0.1:81/x"), "redirected to another host"},
		{"keys too long", bitbuckettest.Keys, bitbuckettest.Oversized(1 << 20), "more than 1048576 bytes"},
		{"discovery too long", bitbuckettest.Discovery, bitbuckettest.Oversized(1 << 20), "more than 1048576 bytes"},
		{"keys not JSON", bitbuckettest.Keys, bitbuckettest.Replaced("<html>"), "not one JSON object"},
		{"keys not a set", bitbuckettest.Keys, bitbuckettest.Replaced("{}"), "not a JWK Set"},
		{"keys cut", bitbuckettest.Keys, bitbuckettest.Truncated(), "read the response"},
		{"no keys", bitbuckettest.Keys, bitbuckettest.Replaced(`{"keys":[]}`), "publishes no RSA key"},
		{"away", bitbuckettest.OIDC, bitbuckettest.Resetting(), "cannot be fetched"},
		{"hanging", bitbuckettest.Keys, bitbuckettest.Hanging(), "deadline exceeded"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t, nil)
				fault := h.server.Inject(test.endpoint, test.fault)
				defer fault.Clear()
				err := h.auth.Check(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "workspace acme") {
					t.Fatalf("got %v", err)
				}
				fault.Clear()
				if err := h.auth.Check(t.Context()); err != nil {
					t.Errorf("when it is well again: %v", err)
				}
			})
		})
	}
}

// TestRetryAfter holds that an issuer that sends Retry-After is not queried
// by tokens before.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		limit := bitbuckettest.RateLimited(0)
		limit.Header = http.Header{"Retry-After": {"120"}}
		limited := h.server.Inject(bitbuckettest.OIDC, limit)
		token := h.token(h.step)
		h.refuses(token, identity.KeysUnavailable)
		limited.Clear()
		time.Sleep(119 * time.Second)
		h.refuses(token, identity.KeysUnavailable)
		if n := h.server.Count(bitbuckettest.OIDC); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(time.Second)
		h.accepts(token)
	})
}

func TestKeptKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		kept := func(_ *env, c *Config, _ *Deps) { c.StateDirectory = dir }
		h := build(t, kept)
		token := h.token(h.step)
		h.accepts(token)
		synctest.Wait()
		files, err := filepath.Glob(filepath.Join(dir, "issuer-keys", "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("got %v, %v", files, err)
		}
		if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v", info.Mode(), err)
		}

		// A restart while the issuer is unavailable.
		h.server.Stop()
		again := h.authenticator(kept)
		if s := again.Status()[0]; !s.FromDisk || !s.KeysUsable {
			t.Errorf("got %+v", s)
		}
		if err := again.Check(t.Context()); err != nil {
			t.Errorf("kept keys do not start it: %v", err)
		}
		if problem, _ := outcome(again, token); problem != "" {
			t.Errorf("got %q", problem)
		}
		if !strings.Contains(h.log.String(), "using cached keys") {
			t.Error("the log does not say so")
		}

		// Files that must not be used.
		good, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for name, spoil := range map[string]func() error{
			"writable by others": func() error { return os.Chmod(files[0], 0o622) },
			"another issuer": func() error {
				return os.WriteFile(files[0], []byte(strings.Replace(string(good), "workspaces/acme", "workspaces/evil", 1)), 0o600)
			},
			"from the future": func() error {
				return os.WriteFile(files[0], []byte(strings.Replace(string(good), `"fetched":"2000`, `"fetched":"2100`, 1)), 0o600)
			},
			"cut": func() error { return os.WriteFile(files[0], good[:len(good)/2], 0o600) },
			"another version": func() error {
				return os.WriteFile(files[0], []byte(strings.Replace(string(good), `"version":1`, `"version":2`, 1)), 0o600)
			},
			"a link": func() error {
				if err := os.Rename(files[0], files[0]+".moved"); err != nil {
					return err
				}
				return os.Symlink(files[0]+".moved", files[0])
			},
		} {
			_ = os.Remove(files[0])
			if err := os.WriteFile(files[0], good, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			spoilt := h.authenticator(kept)
			if s := spoilt.Status()[0]; s.Keys != 0 {
				t.Errorf("%s: it was used", name)
			}
			if err := spoilt.Check(t.Context()); err == nil {
				t.Errorf("%s: it started without keys", name)
			}
		}

		// Too old.
		_ = os.Remove(files[0])
		if err := os.WriteFile(files[0], good, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		if old := h.authenticator(kept); old.Check(t.Context()) == nil || old.Ready() == nil {
			t.Error("keys beyond their maximum age were used")
		}
	})
}

// TestWithdrawnKeyLeavesDisk holds that a restart does not bring a withdrawn key
// back.
func TestWithdrawnKeyLeavesDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		kept := func(_ *env, c *Config, _ *Deps) { c.StateDirectory = dir }
		h := build(t, kept)
		token := h.token(h.step)
		h.accepts(token)
		h.acme.RotateKey(false)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.refuses(token, identity.CredentialKeyUnknown)
		h.server.Stop()
		time.Sleep(5 * time.Second)
		again := h.authenticator(kept)
		if problem, _ := outcome(again, token); problem != identity.KeysUnavailable {
			t.Errorf("got %q", problem)
		}
		again.Close()
	})
}

// TestLibraryFetchesForEachForgery shows the attack that keySet ends: go-oidc's
// own key set asks the issuer once for every forged token, also for a known key.
func TestLibraryFetchesForEachForgery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		ctx := oidc.ClientContext(t.Context(), h.server.Client())
		v := oidc.NewVerifier(h.acme.Issuer(), oidc.NewRemoteKeySet(ctx, h.acme.Issuer()+"/keys.json"), &oidc.Config{ClientID: audience})
		forged := h.server.NewKey(h.acme.Key().ID, "RS256").Sign(nil, h.step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}}))
		for range 20 {
			if _, err := v.Verify(ctx, forged); err == nil {
				t.Fatal("accepted")
			}
			synctest.Wait() // its fetch ends in a goroutine of its own
		}
		if n := h.server.Count(bitbuckettest.Keys); n != 20 {
			t.Errorf("go-oidc fetched %d times for 20 forged tokens", n)
		}
		h.accepts(h.token(h.step))
		asked := h.server.Count(bitbuckettest.Keys)
		for range 20 {
			h.refuses(forged, identity.CredentialSignature)
			time.Sleep(time.Minute)
		}
		if n := h.server.Count(bitbuckettest.Keys) - asked; n != 0 {
			t.Errorf("we fetched %d times", n)
		}
	})
}
