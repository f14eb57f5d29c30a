package bitbucket

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// inspector returns one of the env's configuration.
func (h *env) inspector(change func(*Config)) *Inspector {
	h.t.Helper()
	c := h.auth.config
	if change != nil {
		change(&c)
	}
	n, err := NewInspector(c, Deps{Transport: h.server.Client().Transport})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(n.Close)
	return n
}

func (i *Inspection) failed() (names []string) {
	for _, c := range i.Checks {
		if c.Result == Failed {
			names = append(names, c.Check)
		}
	}
	return names
}

func (i *Inspection) result(name string) Checked {
	for _, c := range i.Checks {
		if c.Check == name {
			return c
		}
	}
	return Checked{}
}

// TestInspectAgrees holds the report and the proxy together, over the whole
// table of odd and hostile tokens: the same verdict, the same first reason, and
// the check that the row names among the failed ones.
func TestInspectAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := h.inspector(nil)
		for _, r := range tokentest.Rows {
			token := r.Make(f)
			i := n.Inspect(t.Context(), identity.NewCredential(token), true)
			want := Accepted
			if r.Problem != "" {
				want = Refused
			}
			if i.Verdict != want || i.Problem != r.Problem {
				t.Errorf("%s: %s for %q, want %s for %q", r.Name, i.Verdict, i.Problem, want, r.Problem)
			}
			if r.Problem != "" && !slices.Contains(i.failed(), r.Check) {
				t.Errorf("%s: %v failed, %v is not among them", r.Name, i.failed(), r.Check)
			}
			seen := map[string]bool{}
			for _, c := range i.Checks {
				if seen[c.Check] || c.About == "" || c.Result == Failed && c.Detail == "" {
					t.Errorf("%s: twice or without words: %+v", r.Name, c)
				}
				seen[c.Check] = true
			}
			text, err := json.Marshal(i)
			if err != nil {
				t.Fatal(err)
			}
			if parts := strings.Split(token, "."); len(parts) > 2 && len(parts[2]) > 20 && strings.Contains(string(text), parts[2][:20]) {
				t.Errorf("%s: the report holds the signature", r.Name)
			}
			if strings.ContainsAny(string(text), "\u202e\x00\x1b") {
				t.Errorf("%s: the report is not fit for a terminal: %q", r.Name, text)
			}
			// What is refused without a configuration is refused with it too.
			if alone := Decode(identity.NewCredential(token), time.Now); alone.Verdict == Refused && r.Problem == "" || alone.Verdict == Accepted {
				t.Errorf("%s: alone %s %v", r.Name, alone.Verdict, alone.failed())
			}
		}
	})
}

// TestInspectNamesEverything: not only the first thing that is wrong.
func TestInspectNamesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		token := tokentest.With("aud", "https://other.example", "workspaceUuid", otherUUID, "sub", "x", "iat", tokentest.At(-20*time.Hour),
			"exp", tokentest.At(-time.Hour), "nbf", tokentest.At(time.Hour))(f)
		i := h.inspector(nil).Inspect(t.Context(), identity.NewCredential(token), true)
		want := []string{"expiry", "not_before", "lifetime", "audience", "workspace", "subject"}
		if got := i.failed(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if i.result("signature").Result != Passed || i.Problem != identity.CredentialExpired {
			t.Errorf("got %+v", i)
		}
		if d := i.result("audience").Detail; !strings.Contains(d, audience) {
			t.Errorf("the audience's detail does not say what to do: %q", d)
		}
		// Of an unknown issuer: compared with the one workspace, never fetched.
		before := h.server.Count(bitbuckettest.Discovery)
		i = h.inspector(nil).Inspect(t.Context(), identity.NewCredential(tokentest.With("iss", "http://127.0.0.1/elsewhere", "aud", "x")(f)), true)
		if got := i.failed(); !slices.Equal(got, []string{"issuer", "audience"}) || i.result("signature").Result != NotReached {
			t.Errorf("got %v: %+v", got, i.Checks)
		}
		if h.server.Count(bitbuckettest.Discovery) != before {
			t.Error("keys were fetched for an issuer that is not the token's")
		}
	})
}

// TestInspectOffline: no request by default, the server's kept keys where they
// can be read, and no verdict of what cannot be judged.
func TestInspectOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		h := build(t, func(_ *env, c *Config, _ *Deps) { c.StateDirectory = state })
		credential := identity.NewCredential(h.token(h.step))
		n := h.inspector(func(c *Config) { c.StateDirectory = "" })
		i := n.Inspect(t.Context(), credential, false)
		if i.Verdict != Undecided || i.result("key").Result != Unknown || !strings.Contains(i.result("key").Detail, "--online") {
			t.Errorf("without keys: %s %+v", i.Verdict, i.result("key"))
		}
		if i.Content == nil || i.Content.StepUUID != h.step.UUID || i.Content.Branch != "main" || !slices.Equal(i.Content.Audiences, []string{audience}) {
			t.Errorf("content: %+v", i.Content)
		}
		if got := h.server.Count(bitbuckettest.Discovery) + h.server.Count(bitbuckettest.Keys); got != 0 {
			t.Fatalf("%d requests", got)
		}

		h.accepts(h.token(h.step)) // the server keeps its keys
		h.auth.spawned.Wait()
		before := h.server.Count(bitbuckettest.Keys)
		i = h.inspector(nil).Inspect(t.Context(), credential, false)
		if i.Verdict != Accepted || i.Keys == nil || i.Keys.Online || i.Keys.Count != 1 {
			t.Errorf("with kept keys: %s %+v", i.Verdict, i.Keys)
		}
		h.acme.RotateKey(false)
		credential = identity.NewCredential(h.token(h.step))
		if i = h.inspector(nil).Inspect(t.Context(), credential, false); i.Verdict != Undecided {
			t.Errorf("a key that is newer than the kept ones: %s", i.Verdict)
		}
		if h.server.Count(bitbuckettest.Keys) != before {
			t.Error("an inspection without --online made a request")
		}
		kept, _ := filepath.Glob(filepath.Join(state, "issuer-keys", "*.json"))
		content, err := os.ReadFile(kept[0])
		if err != nil {
			t.Fatal(err)
		}
		if i = h.inspector(nil).Inspect(t.Context(), credential, true); i.Verdict != Accepted || !i.Keys.Online {
			t.Errorf("online: %s %+v", i.Verdict, i.Keys)
		}
		if after, err := os.ReadFile(kept[0]); err != nil || string(after) != string(content) {
			t.Error("an inspection has written the server's file")
		}
		if err := os.Chmod(kept[0], 0o666); err != nil {
			t.Fatal(err)
		}
		if i = h.inspector(nil).Inspect(t.Context(), credential, false); !strings.Contains(i.result("key").Detail, "cannot be read") {
			t.Errorf("a file that others may write: %+v", i.result("key"))
		}
		h.acme.SetOIDC(false)
		if i = h.inspector(nil).Inspect(t.Context(), credential, true); i.Verdict != Undecided || !strings.Contains(i.result("key").Detail, "cannot be fetched") {
			t.Errorf("the issuer is away: %s %+v", i.Verdict, i.result("key"))
		}
	})
}

// TestInspectWritesNothing: not even the folder that a server would make.
func TestInspectWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		state := filepath.Join(t.TempDir(), "identity")
		n := h.inspector(func(c *Config) { c.StateDirectory = state })
		n.Inspect(t.Context(), identity.NewCredential(h.token(h.step)), true)
		if _, err := os.Stat(state); err == nil {
			t.Error("the state directory was made")
		}
	})
}

func TestInspectAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		n := h.inspector(func(c *Config) { c.AdmittedMaxAge = 4 * time.Hour })
		credential := identity.NewCredential(h.step.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: time.Hour}))
		time.Sleep(2 * time.Hour)
		if i := n.Inspect(t.Context(), credential, true); i.Verdict != Undecided || i.result("expiry").Result != Unknown {
			t.Errorf("ended, perhaps admitted: %s %+v", i.Verdict, i.result("expiry"))
		}
		time.Sleep(4 * time.Hour)
		if i := n.Inspect(t.Context(), credential, true); i.Verdict != Refused {
			t.Errorf("ended long ago: %s", i.Verdict)
		}
	})
}

// FuzzInspect holds that the report never panics, never accepts what the proxy
// refuses, and holds no signature.
func FuzzInspect(f *testing.F) {
	h := build(f, nil)
	if err := h.auth.Check(f.Context()); err != nil {
		f.Fatal(err)
	}
	forge := newForge(h)
	for _, r := range tokentest.Rows {
		f.Add(r.Make(forge))
	}
	n, err := NewInspector(h.auth.config, Deps{})
	if err != nil {
		f.Fatal(err)
	}
	n.a.issuers[h.acme.Issuer()].keys.state.Store(h.auth.issuers[h.acme.Issuer()].keys.state.Load())
	f.Fuzz(func(t *testing.T, token string) {
		i := n.Inspect(t.Context(), identity.NewCredential(token), false)
		problem, _ := outcome(h.auth, token)
		if token == "" {
			problem = identity.CredentialMalformed // the proxy reports a missing credential by another reason
		}
		if i.Verdict == Accepted && problem != "" || i.Verdict == Refused && problem == "" {
			t.Fatalf("%s, and the proxy says %q", i.Verdict, problem)
		}
		text, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		if parts := strings.Split(token, "."); len(parts) == 3 && len(parts[2]) > 40 && !strings.Contains(parts[0]+parts[1], parts[2]) &&
			strings.Contains(string(text), parts[2]) {
			t.Fatal("the report holds the signature")
		}
	})
}
