package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// cell is one combination of all that decides what a client is answered.
type cell struct {
	action     string // connect, request
	listener   string // plain, tls
	credential string // none, bad, good
	outcome    string // what policy makes of it: allow, deny, report, error
	audit      string // up, down

	client net.IP // an address of its own, with its own rate; its rows are found by it
	caller caller
	id     string // the decision's, as the client received it
}

func (c *cell) String() string {
	return fmt.Sprintf("%s %s %s credential, %s, audit %s", c.action, c.listener, c.credential, c.outcome, c.audit)
}

// verdict is what has to come of a cell.
type verdict struct {
	status int
	reason string
	row    fields // nil: neither a row nor a line
}

// want is the whole specification of the matrix.
func (c *cell) want() verdict {
	switch {
	case c.credential == "none":
		return verdict{407, "credential_missing", nil}
	case c.credential == "bad":
		return verdict{407, "credential_signature", fields{"verdict": "deny", "rule": nil, "step_uuid": nil, "would_deny": false}}
	case c.outcome == "deny":
		return verdict{403, "policy_denied", fields{"verdict": "deny", "rule": "no-pastebins", "would_deny": false}}
	case c.outcome == "error":
		return verdict{403, "policy_error", fields{"verdict": "deny", "rule": nil, "would_deny": false}}
	case c.audit == "down":
		return verdict{503, "audit_unavailable", fields{"verdict": "deny"}}
	case c.outcome == "report":
		return verdict{200, "no_rule_matched", fields{"verdict": "allow", "mode": "report", "would_deny": true}}
	}
	return verdict{200, "policy_allowed", fields{"verdict": "allow", "mode": "enforce", "rule": "everybody", "would_deny": false}}
}

// hosts are the targets for which the test's policy comes to each outcome.
var hosts = map[string]string{
	"allow":  "files.partner.example",
	"deny":   "paste.unlisted.example",
	"report": "observed.unlisted.example",
	"error":  "unanswerable.partner.example",
}

// unanswerable is a rule that has two values for one host: OPA's
// eval_conflict_error.
const unanswerable = `package sallyport.egress

quota := 1 if input.target.host == "unanswerable.partner.example"

quota := 2 if input.target.port > 0

allow contains {"rule": "within-quota"} if {
	input.target.host == "unanswerable.partner.example"
	quota == 1
}
`

// matrix is every cell with this state of the audit log.
func matrix(w *fixture, audit string) []*cell {
	var cells []*cell
	forged := w.Bitbucket.NewKey(w.Workspace.Key().ID, "RS256") // under the published key's id
	for _, action := range []string{"connect", "request"} {
		for _, listener := range []string{"plain", "tls"} {
			for _, credential := range []string{"none", "bad", "good"} {
				for _, outcome := range []string{"allow", "deny", "report", "error"} {
					c := &cell{action: action, listener: listener, credential: credential, outcome: outcome, audit: audit}
					c.client = net.IPv4(127, 9, byte(len(audit)), byte(len(cells)+1))
					repository := w.Payments
					if outcome == "report" {
						repository = w.Website // is being observed
					}
					o := bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}}
					if credential == "bad" {
						o.Key = forged
					}
					c.caller = w.callerWith(repository, nil, "main", o)
					cells = append(cells, c)
				}
			}
		}
	}
	return cells
}

// TestMatrix puts every combination of action, listener, credential, outcome of
// the policy and state of the audit log to the program, and checks what the
// client is answered, at the log line, at the audit row and at the counters.
func TestMatrix(t *testing.T) {
	t.Parallel()
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db, tls: true})
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "unanswerable.rego"), []byte(unanswerable), 0o644); err != nil {
		t.Fatal(err)
	}
	w.start()

	up, down := matrix(w, "up"), matrix(w, "down")
	w.putAll(t, up)
	for _, c := range up {
		t.Run(c.String(), func(t *testing.T) { w.onRecord(t, c) })
	}
	w.cutOff(t, postgres)
	w.putAll(t, down)
	postgres.Restart(t)
	w.ready()
	for _, c := range down {
		t.Run(c.String(), func(t *testing.T) { w.onRecord(t, c) })
	}
	if len(up)+len(down) != 2*2*3*4*2 {
		t.Errorf("the matrix has %d cells", len(up)+len(down))
	}
	w.stop()
	testWriterEnded(t, w)
	testLeaves(t, w)
}

// cutOff stops the database and returns when the server has detected that.
func (w *fixture) cutOff(t *testing.T, postgres *pgtest.Server) {
	t.Helper()
	postgres.Kill(t)
	w.connect(t, w.anybody(), "nobody.listed.example:443").refused(t, 403, "no_rule_matched")
	w.log.wait(t, "of the outage", message("audit database unavailable", nil))
}

// putAll sends every cell's request, one after the other, and holds the counters
// against what was asked.
func (w *fixture) putAll(t *testing.T, cells []*cell) {
	t.Helper()
	counted, before := map[string]float64{}, map[string]float64{}
	for _, c := range cells {
		want := c.want()
		v, report := "deny", want.row != nil && want.row["would_deny"] == true
		if want.status == 200 {
			v = "allow"
		}
		counted[fmt.Sprintf(`sallyport_decisions_total{action="%s",reason="%s",verdict="%s",would_deny="%t"}`, c.action, want.reason, v, report)]++
		if want.row == nil {
			counted[`sallyport_unrecorded_total{reason="credential_missing"}`]++
		}
	}
	for name := range counted {
		before[name] = w.counter(t, name)
	}
	for _, c := range cells {
		t.Run(c.String()+": answer", func(t *testing.T) { w.put(t, c) })
	}
	for name, n := range counted {
		if grown := w.counter(t, name) - before[name]; grown != n {
			t.Errorf("%s has grown by %v, not %v", name, grown, n)
		}
	}
}

// put sends a cell's request and checks the answer.
func (w *fixture) put(t *testing.T, c *cell) {
	t.Helper()
	to := w.proxy
	if c.listener == "tls" {
		to = w.tlsProxy
	}
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: c.client}}).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if c.listener == "tls" {
		config := w.authority(t)
		config.ServerName = "127.0.0.1"
		conn = tls.Client(conn, config)
	}
	credential := c.caller.basic()
	if c.credential == "none" {
		credential = ""
	}
	head := connectTo(fmt.Sprintf("%s:%d", hosts[c.outcome], w.HTTPSPort), credential)
	if c.action == "request" {
		head = "GET " + w.http(hosts[c.outcome], "/matrix") + " HTTP/1.1\r\nHost: " + hosts[c.outcome] + "\r\nConnection: close\r\n"
		if credential != "" {
			head += "Proxy-Authorization: " + credential + "\r\n"
		}
		head += "\r\n"
	}
	a := sendRawOn(t, conn, head)
	want := c.want()
	if want.status == 200 {
		if a.StatusCode != 200 || a.Header.Get("Sallyport-Reason") != "" {
			t.Fatalf("answered %q %s", a.line, a.body)
		}
		_ = conn.Close()
		return
	}
	c.id = a.refused(t, want.status, want.reason)
	if (c.id == "") != (want.row == nil) {
		t.Errorf("the decision's id is %q", c.id)
	}
	if want.status == 503 && a.Header.Get("Retry-After") == "" {
		t.Error("a 503 does not say when to come again")
	}
}

// onRecord checks a cell's line and row.
func (w *fixture) onRecord(t *testing.T, c *cell) {
	t.Helper()
	want := c.want()
	if want.row == nil {
		if rows := w.query(t, `SELECT kind, reason FROM audit.events WHERE client_address = $1::text::inet`, c.client.String()); len(rows) != 0 {
			t.Errorf("there are rows: %v", rows)
		}
		if line := w.log.find(0, message("decision", fields{"client_address": c.client.String()})); line != nil {
			t.Errorf("there is a line: %v", line)
		}
		return
	}
	var row fields
	if c.credential == "good" {
		row = w.decision(t, c.caller)
	} else {
		row = w.decisionWith(t, c.id)
	}
	all := fields{"reason": want.reason, "action": c.action, "host": hosts[c.outcome], "client_address": c.client.String(), "listener": w.proxy}
	if c.listener == "tls" {
		all["listener"] = w.tlsProxy
	}
	for name, value := range want.row {
		all[name] = value
	}
	if c.id != "" {
		all["decision_id"] = c.id
	}
	if want.status != 200 {
		all["status"] = want.status
	}
	w.both(t, row, all)
	if want.status == 200 {
		w.log.wait(t, "of the end", message(closingKind(c.action), fields{"decision_id": row["decision_id"], "close_reason": row["close_reason"]}))
	}
}

// closingKind is the message of the line that an action ends with.
func closingKind(action string) string {
	if action == "connect" {
		return "tunnel_closed"
	}
	return "request_closed"
}
