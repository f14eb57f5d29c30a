package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// TestStep is what a step's after-script does: it reads what the step itself requested and
// was refused, with curl and the proxy's own URL, and no other step can.
func TestStep(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{handler: upstream(t), tls: true})
	w.start()
	const target = "step.unlisted.example"
	c, other := w.anybody(), w.anybody() // two steps of one repository
	id := w.curl(t, c.proxyURL(w.proxy), w.https(target, "/")).refused(t, "403", "no_rule_matched")

	read := func(c caller, address string, args ...string) visit {
		t.Helper()
		return w.curl(t, "", append(append([]string{"--noproxy", "*"}, args...), address)...)
	}
	v := read(c, c.proxyURL(w.proxy)+"/step")
	if v.status != "200" || !strings.Contains(v.body, " 403 no_rule_matched "+target) || !strings.Contains(v.body, id) || !strings.Contains(v.body, "0 requests allowed, 1 denied") {
		t.Errorf("the step reads %s %q", v.status, v.body)
	}
	v = read(c, "https://"+w.tlsProxy+"/step?format=json", "--header", "Proxy-Authorization: Bearer "+c.token)
	if v.status != "200" || !strings.Contains(v.body, `"decision_id": "`+id+`"`) {
		t.Errorf("over TLS, as JSON, the step reads %s %q", v.status, v.body)
	}
	v = read(other, other.proxyURL(w.proxy)+"/step")
	if v.status != "200" || strings.Contains(v.body, id) || !strings.Contains(v.body, "nothing was refused") {
		t.Errorf("another step of the repository reads %s %q", v.status, v.body)
	}

	ended := c.step.Token(bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, IssuedAt: minutesAgo(120), Lifetime: time.Hour})
	w.addSecret(ended)
	v = read(c, "http://"+w.proxy+"/step", "--header", "Authorization: Bearer "+ended)
	if v.status != "401" || v.header("Sallyport-Reason") != "credential_expired" || strings.Contains(v.body, id) {
		t.Errorf("with an expired token the step reads %s %q", v.status, v.body)
	}
	if n := w.counter(t, "sallyport_step_reads_total"); n != 3 {
		t.Errorf("counted %v", n)
	}
	if rows := w.query(t, `SELECT kind FROM audit.events WHERE step_uuid = $1::text::uuid`, other.step.UUID); len(rows) != 0 {
		t.Errorf("reading was recorded: %v", rows)
	}

	// A target is evaluated without a connection, and recorded.
	v = read(c, c.proxyURL(w.proxy)+"/step?to="+target+":443")
	if v.status != "200" || !strings.HasPrefix(v.body, "deny no_rule_matched "+target+":443") {
		t.Errorf("the evaluation is %s %q", v.status, v.body)
	}
	if rows := w.query(t, `SELECT verdict, reason FROM audit.events WHERE kind = 'target_evaluated' AND step_uuid = $1::text::uuid AND host = $2`, c.step.UUID, target); len(rows) != 1 || rows[0]["verdict"] != "deny" {
		t.Errorf("evaluations in the log: %v", rows)
	}
	// So is what a step states about its network.
	v = read(c, c.proxyURL(w.proxy)+"/step/network-check", "--data", `{"results": [{"test": "direct_tcp", "address": "192.0.2.1:443", "network": "tcp4", "outcome": "blocked"}]}`)
	if v.status != "204" {
		t.Errorf("the network check is answered with %s %q", v.status, v.body)
	}
	if rows := w.query(t, `SELECT outcome, tests FROM audit.network_checks WHERE step_uuid = $1::text::uuid`, c.step.UUID); len(rows) != 1 || rows[0]["outcome"] != "blocked" || rows[0]["tests"] != "direct_tcp" {
		t.Errorf("network checks in the log: %v", rows)
	}
	w.stop()
}
