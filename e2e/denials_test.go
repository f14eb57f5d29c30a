package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// TestDenials is what a step's after-script does: it reads what the step itself
// was refused, with curl and the proxy's own URL, and no other step can.
func TestDenials(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{handler: upstream(t), tls: true})
	w.start()
	const target = "denials.unlisted.example"
	c, other := w.anybody(), w.anybody() // two steps of one repository
	id := w.curl(t, c.proxyURL(w.proxy), w.https(target, "/")).refused(t, "403", "no_rule_matched")

	read := func(c caller, address string, args ...string) visit {
		t.Helper()
		return w.curl(t, "", append(append([]string{"--noproxy", "*"}, args...), address)...)
	}
	v := read(c, c.proxyURL(w.proxy)+"/denials")
	if v.status != "200" || !strings.Contains(v.body, " 403 no_rule_matched "+target) || !strings.Contains(v.body, id) || strings.Count(v.body, "\n") != 1 {
		t.Errorf("the step reads %s %q", v.status, v.body)
	}
	v = read(c, "https://"+w.tlsProxy+"/denials?format=json", "--header", "Proxy-Authorization: Bearer "+c.token)
	if v.status != "200" || !strings.Contains(v.body, `"decision_id": "`+id+`"`) {
		t.Errorf("over TLS, as JSON, the step reads %s %q", v.status, v.body)
	}
	v = read(other, other.proxyURL(w.proxy)+"/denials")
	if v.status != "200" || strings.Contains(v.body, id) || !strings.Contains(v.body, "nothing was refused") {
		t.Errorf("another step of the repository reads %s %q", v.status, v.body)
	}

	ended := c.step.Token(bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, IssuedAt: minutesAgo(120), Lifetime: time.Hour})
	w.addSecret(ended)
	v = read(c, "http://"+w.proxy+"/denials", "--header", "Authorization: Bearer "+ended)
	if v.status != "401" || v.header("Sallyport-Reason") != "credential_expired" || strings.Contains(v.body, id) {
		t.Errorf("with an expired token the step reads %s %q", v.status, v.body)
	}
	if n := w.counter(t, "sallyport_denials_read_total"); n != 3 {
		t.Errorf("counted %v", n)
	}
	if rows := w.query(t, `SELECT kind FROM audit.events WHERE step_uuid = $1::text::uuid`, other.step.UUID); len(rows) != 0 {
		t.Errorf("reading was recorded: %v", rows)
	}
	w.stop()
}
