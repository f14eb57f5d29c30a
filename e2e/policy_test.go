package e2e

import (
	"strings"
	"testing"
)

func testAllowed(t *testing.T, w *fixture) {
	c := w.production()
	v := w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/v1/payments"))
	if v.exit != 0 || v.connect != "200" || v.status != "200" || !strings.Contains(v.body, "saw GET /v1/payments") {
		t.Fatalf("curl ended with %d after %s and %s: %q\n%s", v.exit, v.connect, v.status, v.body, v.verbose)
	}
	row := w.decision(t, c)
	w.both(t, row, fields{
		"verdict": "allow", "mode": "enforce", "would_deny": false, "reason": "policy_allowed", "rule": "partner-api",
		"action": "connect", "scheme": "https", "host": "api.partner.example", "port": w.HTTPSPort, "status": 200,
		"workspace": "acme", "repository": "acme/payments", "project": "PAY", "branch": "main",
		"deployment": "production", "deployment_type": "production",
		"workspace_uuid": w.Workspace.UUID, "repository_uuid": w.Payments.UUID, "deployment_uuid": w.Production.UUID,
		"pipeline_uuid": c.step.Pipeline.UUID, "step_uuid": c.step.UUID,
		"issuer": w.Workspace.Issuer(), "dialed_address": "127.0.0.1", "client_address": "127.0.0.1", "listener": w.proxy,
		"target_raw": nil,
	})
	orderly(t, row)
	if received, _ := row["bytes_received"].(float64); received < 200 {
		t.Errorf("received is %v, less than a TLS handshake", row["bytes_received"])
	}
	revision, _ := row["revision"].(string)
	if content := w.query(t, `SELECT position('partner-api'::bytea IN content) > 0 AS whole FROM audit.policies WHERE digest = $1`, revision); len(content) != 1 || content[0]["whole"] != true {
		t.Errorf("the policy with revision %q is not kept: %v", revision, content)
	}
	line := w.log.wait(t, "the tunnel's end", message("tunnel_closed", fields{"decision_id": row["decision_id"]}))
	check(t, "log line", line, fields{"close_reason": row["close_reason"], "bytes_sent": row["bytes_sent"], "bytes_received": row["bytes_received"],
		"host": "api.partner.example", "step_uuid": c.step.UUID, "repository": "acme/payments"})
}

func testBranchBuild(t *testing.T, w *fixture) {
	c := w.caller(w.Payments, nil, "feature/try-it")
	v := w.curl(t, c.proxyURL(w.proxy), w.https("api.partner.example", "/v1/payments"))
	id := v.refused(t, "403", "no_rule_matched")
	if ps := v.header("Proxy-Status"); ps != `sallyport; error=http_request_denied; details="no_rule_matched"` {
		t.Errorf("Proxy-Status is %q", ps)
	}
	row := w.decision(t, c)
	w.both(t, row, fields{
		"decision_id": id, "verdict": "deny", "mode": "enforce", "would_deny": false, "reason": "no_rule_matched", "rule": nil,
		"status": 403, "host": "api.partner.example", "repository": "acme/payments", "branch": "feature/try-it",
		"deployment": nil, "deployment_uuid": nil, "dialed_address": nil, "addresses": nil, "closed_at": nil,
	})

	// curl hides the body: the same request by hand gets the same answer, and the body
	// names the remedy.
	by := w.caller(w.Payments, w.Staging, "feature/try-it")
	a := w.connect(t, by, "api.partner.example:443")
	id = a.refused(t, 403, "no_rule_matched")
	if !strings.Contains(a.body, "ask for a rule in the policy repository") {
		t.Errorf("the body does not say what to do: %q", a.body)
	}
	w.both(t, w.decision(t, by), fields{"decision_id": id, "reason": "no_rule_matched", "deployment": "staging", "deployment_type": "staging"})
}

func testReportMode(t *testing.T, w *fixture) {
	c := w.caller(w.Website, nil, "main")
	v := w.curl(t, c.proxyURL(w.proxy), w.https("fonts.unlisted.example", "/inter.css"))
	if v.exit != 0 || v.connect != "200" || v.status != "200" {
		t.Fatalf("curl ended with %d after %s and %s\n%s", v.exit, v.connect, v.status, v.verbose)
	}
	w.both(t, w.decision(t, c), fields{
		"verdict": "allow", "mode": "report", "would_deny": true, "reason": "no_rule_matched", "rule": "website-observed",
		"status": 200, "repository": "acme/website", "host": "fonts.unlisted.example",
	})
	if n := w.query(t, `SELECT 1 AS one FROM audit.would_deny WHERE step_uuid = $1::text::uuid`, c.step.UUID); len(n) != 1 {
		t.Errorf("audit.would_deny has %d rows of the step", len(n))
	}

	// A deny is reported too, and a request that a rule allows is not.
	denied, allowed := w.caller(w.Website, nil, "main"), w.caller(w.Website, nil, "main")
	w.curl(t, denied.proxyURL(w.proxy), w.https("paste.unlisted.example", "/"))
	w.both(t, w.decision(t, denied), fields{"verdict": "allow", "would_deny": true, "reason": "policy_denied", "rule": "no-pastebins"})
	w.curl(t, allowed.proxyURL(w.proxy), w.https("files.partner.example", "/"))
	w.both(t, w.decision(t, allowed), fields{"verdict": "allow", "mode": "report", "would_deny": false, "reason": "policy_allowed", "rule": "everybody"})
}

func testDenied(t *testing.T, w *fixture) {
	c := w.production()
	a := w.connect(t, c, "paste.unlisted.example:443")
	id := a.refused(t, 403, "policy_denied")
	const message = "Pastebins are not for pipelines: ask security@acme.example."
	if !strings.Contains(a.body, message) || !strings.Contains(a.body, "rule no-pastebins") || a.Header.Get("Sallyport-Rule") != "no-pastebins" {
		t.Errorf("the refusal does not have the rule's word: %q, Sallyport-Rule: %q", a.body, a.Header.Get("Sallyport-Rule"))
	}
	w.both(t, w.decision(t, c), fields{
		"decision_id": id, "verdict": "deny", "reason": "policy_denied", "rule": "no-pastebins", "message": message, "status": 403,
	})
	if n := w.query(t, `SELECT 1 AS one FROM audit.denials WHERE decision_id = $1::text::uuid`, id); len(n) != 1 {
		t.Errorf("audit.denials has %d rows of the decision", len(n))
	}
}

func testUnlisted(t *testing.T, w *fixture) {
	c := w.production()
	v := w.curl(t, c.proxyURL(w.proxy), w.https("nobody.listed.example", "/"))
	id := v.refused(t, "403", "no_rule_matched")
	w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "deny", "reason": "no_rule_matched", "host": "nobody.listed.example"})
}

func testDelegated(t *testing.T, w *fixture) {
	c := w.caller(w.Tools, nil, "main")
	v := w.curl(t, c.proxyURL(w.proxy), w.https("mirror.tools.example", "/"))
	if v.exit != 0 || v.status != "200" {
		t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "reason": "policy_allowed", "rule": "own-mirror", "repository": "acme/tools"})

	// The rule is that repository's alone.
	other := w.production()
	w.connect(t, other, "mirror.tools.example:443").refused(t, 403, "no_rule_matched")
	w.both(t, w.decision(t, other), fields{"verdict": "deny", "reason": "no_rule_matched"})
}

// testDeniedNameIsNotResolved: a DNS query is a message to the operator of the zone.
func testDeniedNameIsNotResolved(t *testing.T, w *fixture) {
	c := w.production()
	const host = "c2VjcmV0.exfiltration.example"
	w.connect(t, c, host+":443").refused(t, 403, "no_rule_matched")
	if n := w.Queries(strings.ToLower(host)); n != 0 {
		t.Errorf("the denied name was looked up %d times", n)
	}
	w.both(t, w.decision(t, c), fields{"verdict": "deny", "host": strings.ToLower(host), "target_raw": host + ":443"})
	if w.Queries("api.partner.example") == 0 {
		a := w.production()
		_ = w.curl(t, a.proxyURL(w.proxy), w.https("api.partner.example", "/"))
		if w.Queries("api.partner.example") == 0 {
			t.Error("the name server does not see the names that are looked up")
		}
	}
}
