package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/testenv"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// rewrite changes the configuration before the server is started.
func (w *fixture) rewrite(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), from) != 1 {
		t.Fatalf("the configuration does not have %q once", from)
	}
	if err := os.WriteFile(w.config, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// newTokenFixture makes a server that is configured for the table of tokens, and the forger
// of these tokens.
func newTokenFixture(t *testing.T, o options) (*fixture, *tokentest.Forge) {
	t.Helper()
	if tokentest.Audience != testenv.Audience {
		t.Fatal("the table is for another audience")
	}
	w := newFixture(t, o)
	w.rewrite(t, fmt.Sprintf("audiences: [%q]", testenv.Audience), fmt.Sprintf("audiences: [%q, %q]", testenv.Audience, tokentest.SecondAudience))
	run := w.Payments.Run("main")
	f := tokentest.NewForge(w.Bitbucket, run.Step(w.Production), run.Step(nil), time.Now())
	w.start()
	return w, f
}

// knock presents a token and returns the reason of the refusal; empty: it was allowed.
func (w *fixture) knock(t testing.TB, token, target string) string {
	t.Helper()
	if len(token) > 500 { // a word is not a secret
		w.addSecret(token)
	}
	credential := "Basic " + base64.StdEncoding.EncodeToString([]byte("step:"+token))
	if len(token) > 8<<10 {
		credential = "Bearer " + token // a third shorter: the head must not be what is too large
	}
	a := sendRaw(t, w.proxy, connectTo(target, credential))
	defer a.conn.Close()
	if a.StatusCode == 200 {
		return ""
	}
	reason := a.Header.Get("Sallyport-Reason")
	want := 407
	if strings.HasSuffix(reason, "_unavailable") {
		want = 503
	}
	if a.StatusCode != want {
		t.Errorf("refused with %d %s", a.StatusCode, reason)
	}
	return reason
}

// present presents a row's token. A verdict that rests on the time of day is
// given a second chance, for between making and judging a second may pass; and
// one on a key waits, because the issuer is queried once in five seconds.
func (w *fixture) present(t testing.TB, f *tokentest.Forge, r tokentest.Row, target string) (reason string) {
	t.Helper()
	for range 5 {
		f.Now = time.Now()
		if reason = w.knock(t, r.Make(f), target); reason == string(r.Problem) {
			break
		}
	}
	if r.Check == tokentest.CheckKey && reason == "keys_unavailable" {
		token := r.Make(f)
		eventually(t, "the issuer is asked for the key of "+r.Name, func() bool {
			reason = w.knock(t, token, target)
			return reason != "keys_unavailable"
		})
	}
	return reason
}

// TestTokensOverTheWire presents every odd and hostile token of the table to the
// running server.
func TestTokensOverTheWire(t *testing.T) {
	t.Parallel()
	w, f := newTokenFixture(t, options{})
	target := echo(t)
	to := "raw.partner.example:" + target.port
	for _, r := range tokentest.Rows {
		if reason := w.present(t, f, r, to); reason != string(r.Problem) {
			t.Errorf("%s (%s): refused for %q, want %q", r.Name, r.Source, reason, r.Problem)
		}
	}
	// The issuer's keys were fetched at the start, and because of those rows alone.
	keys := 1
	for _, r := range tokentest.Rows {
		if r.Check == tokentest.CheckKey {
			keys++
		}
	}
	if n := int(w.counter(t, `sallyport_key_fetches_total{result="ok",workspace="acme"}`)); n > keys {
		t.Errorf("the issuer was asked %d times, for %d keys", n, keys)
	}
	for _, r := range tokentest.Rows {
		if r.Problem != "" && w.counter(t, fmt.Sprintf("sallyport_credentials_refused_total{check=%q}", r.Check)) == 0 {
			t.Errorf("no refusal by %s is counted", r.Check)
		}
	}
}

// TestTokenChecksAreNeeded removes one check at a time from the running server,
// and checks that exactly the rows that name it have another result.
func TestTokenChecksAreNeeded(t *testing.T) {
	t.Parallel()
	for _, check := range []string{"signature", "audience", "subject", "workspace"} {
		t.Run(check, func(t *testing.T) {
			t.Parallel()
			w, f := newTokenFixture(t, options{program: mutant(t), env: []string{"SALLYPORT_WITHOUT=check " + check}})
			target := echo(t)
			to := "raw.partner.example:" + target.port
			for _, r := range tokentest.Rows {
				if r.Check == tokentest.CheckKey {
					continue // each takes five seconds; TestEachCheckIsNeeded has them
				}
				if r.Problem != "" && r.Check == check {
					f.Now = time.Now()
					if reason := w.knock(t, r.Make(f), to); reason == string(r.Problem) {
						t.Errorf("%s: still refused for %q", r.Name, reason)
					}
					continue
				}
				if reason := w.present(t, f, r, to); reason != string(r.Problem) {
					t.Errorf("%s (%s): refused for %q, want %q", r.Name, r.Source, reason, r.Problem)
				}
			}
		})
	}
}
