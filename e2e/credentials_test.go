package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// testNoToken: counted and answered, and no row: git and Java try without one on
// every connection.
func testNoToken(t *testing.T, w *fixture) {
	const target = "no-token.partner.example"
	before := w.counter(t, `sallyport_unrecorded_total{reason="credential_missing"}`)
	v := w.curl(t, "http://"+w.proxy, w.https(target, "/"))
	if id := v.refused(t, "407", "credential_missing"); id != "" {
		t.Errorf("a refusal that is not recorded names the decision %s", id)
	}
	sendRaw(t, w.proxy, connectTo(target+":443", "")).refused(t, 407, "credential_missing")
	if after := w.counter(t, `sallyport_unrecorded_total{reason="credential_missing"}`); after < before+2 {
		t.Errorf("the counter went from %v to %v", before, after)
	}
	if rows := w.query(t, `SELECT kind FROM audit.events WHERE host = $1`, target); len(rows) != 0 {
		t.Errorf("there are rows: %v", rows)
	}
	if line := w.log.find(0, message("decision", fields{"host": target})); line != nil {
		t.Errorf("there is a log line: %v", line)
	}
}

func testUnacceptableTokens(t *testing.T, w *fixture) {
	step := w.Payments.Run("main").Step(w.Production)
	audience := []string{testenv.Audience}
	good := bitbuckettest.TokenOptions{Audiences: audience}
	with := func(edit func(*bitbuckettest.TokenOptions)) string {
		o := good
		edit(&o)
		return step.Token(o)
	}
	foreign := w.Bitbucket.AddWorkspace("stranger")
	stranger := foreign.AddRepository("payments", "PAY").Run("main").Step(nil)
	published := w.Workspace.Key()
	parts := strings.Split(step.Token(good), ".")

	for _, c := range []struct{ name, token, reason string }{
		{"expired", with(func(o *bitbuckettest.TokenOptions) { o.IssuedAt = minutesAgo(120); o.Lifetime = time.Hour }), "credential_expired"},
		{"not yet valid", with(func(o *bitbuckettest.TokenOptions) { o.IssuedAt = minutesAgo(-10) }), "credential_not_yet_valid"},
		{"another workspace's issuer", stranger.Token(good), "credential_issuer"},
		{"another audience", with(func(o *bitbuckettest.TokenOptions) { o.Audiences = []string{"https://elsewhere.example"} }), "credential_audience"},
		{"the default audience", with(func(o *bitbuckettest.TokenOptions) { o.Audiences = nil }), "credential_audience"},
		{"forged with a key of its own", with(func(o *bitbuckettest.TokenOptions) { o.Key = w.Bitbucket.NewKey("", "RS256") }), "credential_key_unknown"},
		{"forged under a published key's id", with(func(o *bitbuckettest.TokenOptions) { o.Key = w.Bitbucket.NewKey(published.ID, "RS256") }), "credential_signature"},
		{"another's claims under a good signature", parts[0] + "." + strings.Split(stranger.Token(bitbuckettest.TokenOptions{
			Audiences: audience, Edit: func(claims map[string]any) { claims["iss"] = w.Workspace.Issuer() }}), ".")[1] + "." + parts[2], "credential_signature"},
		{"no algorithm", with(func(o *bitbuckettest.TokenOptions) { o.Header = map[string]any{"alg": "none"} }), "credential_algorithm"},
		{"another workspace", with(func(o *bitbuckettest.TokenOptions) {
			o.Edit = func(claims map[string]any) { claims["workspaceUuid"] = bitbuckettest.Braced(foreign.UUID) }
		}), "credential_workspace"},
		{"another repository than its subject", with(func(o *bitbuckettest.TokenOptions) {
			o.Edit = func(claims map[string]any) { claims["repositoryUuid"] = bitbuckettest.Braced(w.Website.UUID) }
		}), "credential_subject"},
		{"garbage", "no.such.token", "credential_malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.addSecret(c.token)
			// One address may cause so many events a second; what is over it is
			// counted. So it is tried until it is recorded.
			var id string
			host := strings.NewReplacer(" ", "-", "'", "").Replace(c.name) + ".partner.example"
			head := connectTo(host+":443", "Basic "+base64.StdEncoding.EncodeToString([]byte("step:"+c.token)))
			eventually(t, "the refusal is recorded", func() bool {
				id = sendRaw(t, w.proxy, head).refused(t, 407, c.reason)
				return id != ""
			})
			want := fields{
				"verdict": "deny", "reason": c.reason, "status": 407, "host": strings.ToLower(host), "client_address": "127.0.0.1",
				// Nothing that was not verified is recorded as if it were.
				"workspace_uuid": nil, "repository_uuid": nil, "step_uuid": nil, "repository": nil, "rule": nil,
			}
			switch c.reason {
			case "credential_expired", "credential_not_yet_valid", "credential_audience":
				// And what the issuer has signed is: it is this step's token all the same.
				want["workspace_uuid"], want["repository_uuid"], want["step_uuid"] = w.Workspace.UUID, w.Payments.UUID, step.UUID
				delete(want, "repository") // its name, as far as it is known by now
			}
			w.both(t, w.decisionWith(t, id), want)
		})
	}
	t.Run("ambiguous", func(t *testing.T) {
		c := w.production()
		field := "Proxy-Authorization: " + c.basic() + "\r\n"
		sendRaw(t, w.proxy, "CONNECT api.partner.example:443 HTTP/1.1\r\nHost: api.partner.example:443\r\n"+field+field+"\r\n").
			refused(t, 400, "credential_ambiguous")
		if rows := w.decisions(t, c.step.UUID); len(rows) != 0 {
			t.Errorf("the step is on record without having been verified: %v", rows)
		}
	})
}

func testBearer(t *testing.T, w *fixture) {
	c := w.production()
	v := w.curl(t, "http://"+w.proxy, "--proxy-header", "Proxy-Authorization: Bearer "+c.token, w.https("api.partner.example", "/bearer"))
	if v.exit != 0 || v.status != "200" || !strings.Contains(v.body, "saw GET /bearer") {
		t.Fatalf("curl ended with %d: %q\n%s", v.exit, v.body, v.verbose)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "rule": "partner-api"})
}

// counter reads a series from /metrics. A series with labels that does not exist yet is
// 0; its family is exposed, or documented for operators. An unknown name fails the test.
func (w *fixture) counter(t testing.TB, name string) (value float64) {
	t.Helper()
	status, body := w.get("/metrics")
	if status != 200 {
		t.Fatalf("/metrics answered %d", status)
	}
	for line := range strings.Lines(body) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	if family, _, labels := strings.Cut(name, "{"); !labels || !strings.Contains(body, "# TYPE "+family+" ") && !documentedMetrics()[family] {
		t.Fatalf("the server has no metric %s", name)
	}
	return 0
}

// documentedMetrics are the families that docs/operations.md names.
var documentedMetrics = sync.OnceValue(func() map[string]bool {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		panic(err)
	}
	names := map[string]bool{}
	for _, name := range regexp.MustCompile(`sallyport_[a-z0-9_]+`).FindAllString(string(text), -1) {
		names[name] = true
	}
	return names
})

func testMetrics(t *testing.T, w *fixture) {
	eventually(t, "no tunnel is open any more", func() bool { return w.counter(t, "sallyport_tunnels") == 0 })
	for _, name := range []string{
		`sallyport_decisions_total{action="connect",reason="policy_allowed",verdict="allow",would_deny="false"}`,
		`sallyport_decisions_total{action="request",reason="policy_allowed",verdict="allow",would_deny="false"}`,
		`sallyport_decisions_total{action="connect",reason="no_rule_matched",verdict="allow",would_deny="true"}`,
		`sallyport_decisions_total{action="connect",reason="no_rule_matched",verdict="deny",would_deny="false"}`,
		`sallyport_closed_total{action="connect",cause="finished"}`,
		`sallyport_closed_total{action="connect",cause="hello_mismatch"}`,
		`sallyport_sent_bytes_total`,
		`sallyport_received_bytes_total`,
	} {
		if w.counter(t, name) == 0 {
			t.Errorf("%s is 0", name)
		}
	}
	if n := w.counter(t, "sallyport_panics_total"); n != 0 {
		t.Errorf("%v connections were ended by a fault", n)
	}
	_, body := w.get("/metrics")
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		if found := search([]byte(body), forms(secret)); found != "" {
			t.Errorf("/metrics holds a secret, in the form %q", found)
		}
	}
}
