package bitbucket

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// outcome is the outcome of a token: its problem and the check that found it.
func outcome(a *Authenticator, token string) (problem identity.Problem, by string) {
	_, err := a.Authenticate(context.Background(), identity.NewCredential(token))
	if err == nil {
		return "", ""
	}
	e, ok := errors.AsType[*identity.Error](err)
	if !ok {
		return "not an identity.Error", ""
	}
	if r, ok := errors.AsType[*refusal](e.Err); ok {
		by = r.check.String()
	}
	return e.Problem, by
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, asking)
		f := newForge(h)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		fetches := h.fetches
		for _, r := range tokentest.Rows {
			token := r.Make(f)
			if r.Check == tokentest.CheckKey {
				floor()
				fetches++ // whether it is published is asked, once
			}
			problem, by := outcome(h.auth, token)
			want := r.Check
			if r.Problem == "" {
				want = ""
			}
			if problem != r.Problem || by != want {
				t.Errorf("%s (%s): got %q by %q, want %q by %q", r.Name, r.Source, problem, by, r.Problem, want)
			}
			_, err := h.ask(token)
			if e, ok := errors.AsType[*identity.Error](err); ok && (len(e.Detail) > 1000 || strings.ContainsAny(e.Detail, "\n\r\x00") ||
				len(token) > 40 && strings.Contains(e.Error(), token[len(token)-30:])) {
				t.Errorf("%s: the error is not fit to be shown: %q", r.Name, e.Error())
			}
		}
		if h.fetches != fetches {
			t.Errorf("the tokens caused %d fetches too many", h.fetches-fetches)
		}
		if strings.Contains(h.log.String(), "eyJ") {
			t.Error("a token is in the log")
		}
	})
}

// TestEachCheckIsNeeded leaves one check out at a time and sees that exactly the
// rows that name it come out otherwise.
func TestEachCheckIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		tokens := make([]string, len(tokentest.Rows))
		for i, r := range tokentest.Rows {
			tokens[i] = r.Make(f)
		}
		for c := range checkCount {
			switch c {
			case checkForm, checkJSON: // without them there is nothing to judge; see TestLibraryAlone
				continue
			case checkNamed, checkRevoked: // not a token's; see TestRevoked
				continue
			}
			a := h.authenticator(asking)
			a.skip = 1 << c
			if err := a.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			named := 0
			for i, r := range tokentest.Rows {
				if r.Check == tokentest.CheckKey {
					floor()
				}
				problem, by := outcome(a, tokens[i])
				same := problem == r.Problem && (r.Problem == "" || by == r.Check)
				mine := r.Problem != "" && r.Check == c.String()
				if mine {
					named++
				}
				if same == mine {
					t.Errorf("without the check %v, %q comes out as %q by %q", c, r.Name, problem, by)
				}
			}
			if named == 0 {
				t.Errorf("no row names the check %v", c)
			}
			a.Close()
		}
	})
}

// TestLibraryAlone shows what go-oidc lets in by itself, and that the two checks
// which cannot be left out are needed as well.
func TestLibraryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		keys := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{h.acme.Key().Public()}}
		v := oidc.NewVerifier(h.acme.Issuer(), keys, &oidc.Config{ClientID: audience})
		accepted := map[string]bool{}
		for _, r := range tokentest.Rows {
			if _, err := v.Verify(t.Context(), r.Make(f)); err == nil && r.Problem != "" {
				accepted[r.Name] = true
			}
		}
		for _, name := range []string{"flattened JSON", "general JSON", "issued in the future", "lives for ever",
			"RepositoryUuid beside repositoryUuid", "repositoryUuid twice", "too large", "no kid", "another workspace's UUID"} {
			if !accepted[name] {
				t.Errorf("go-oidc now refuses %q by itself", name)
			}
		}
		t.Logf("go-oidc alone accepts %d of the tokens that are refused here (%d rows in all)", len(accepted), len(tokentest.Rows))
	})
}

// TestOnlyTestsLeaveChecksOut reads the sources: nothing but a test may set skip,
// and what continues behind a failed check makes no principal.
func TestOnlyTestsLeaveChecksOut(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"skip =", "skip |=", "skip: 1", "skip: ^", "checkSet("} {
			if !strings.HasSuffix(name, "_test.go") && strings.Contains(string(source), bad) {
				t.Errorf("%s: %q leaves checks out", name, bad)
			}
		}
		if strings.HasPrefix(name, "inspect") && !strings.HasSuffix(name, "_test.go") {
			for _, bad := range []string{"identity.Principal{", "verified{", ".principal()", "a.cache", "a.skip", ".verify("} {
				if strings.Contains(string(source), bad) {
					t.Errorf("%s: %q has no place where checks are left out", name, bad)
				}
			}
		} else if strings.Contains(string(source), "leftOut") && !strings.HasSuffix(name, "_test.go") && name != "checks.go" {
			t.Errorf("%s leaves checks out", name)
		}
	}
}

func TestDetailsTellWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		f := newForge(h)
		for name, want := range map[string]string{
			"default audience":              `oidc: audiences: ["` + audience + `"]`,
			"another workspace's own token": "evil",
			"expired":                       "ended at 19",
			"a word":                        "BITBUCKET_STEP_OIDC_TOKEN",
			"lives too long":                "12h0m1s",
			"no stepUuid":                   "stepUuid",
		} {
			for _, r := range tokentest.Rows {
				if r.Name == name {
					if e := h.refuses(r.Make(f), r.Problem); !strings.Contains(e.Detail, want) {
						t.Errorf("%s: %q does not say %q", name, e.Detail, want)
					}
				}
			}
		}
		whole := strings.Split(h.token(h.step), ".")
		for parts, cut := range []string{whole[0][:20], whole[0] + "." + whole[1][:20]} {
			want := fmt.Sprintf("the token is cut off: it has %d of its three parts", parts+1)
			if e := h.refuses(cut, identity.CredentialMalformed); !strings.Contains(e.Detail, want) {
				t.Errorf("%q does not say %q", e.Detail, want)
			}
		}
	})
}
