package e2e

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

const lateRule = "package sallyport.egress\n\nallow contains {\"rule\": \"late\"} if input.target.host == \"late.partner.example\"\n"

// TestPolicyTooOld: with policy.max_age, a source that is unavailable for longer ends the
// deciding of the last good revision: everything is refused, and /readyz, a metric
// and an event report it. When the source is back, all is well without anybody's help.
func TestPolicyTooOld(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.inPolicy(t, "  max_age: 1s\n")
	w.start()
	target := echo(t)
	raw := "raw.partner.example:" + target.port
	first := w.anybody()
	a := w.tunnel(t, first, raw)
	a.echoes(t, "while it is young")
	_ = a.conn.Close()
	revision := w.decision(t, first)["revision"]

	away := w.policy + "-away"
	if err := os.Rename(w.policy, away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is too old", func() bool {
		w.signal(syscall.SIGHUP)
		status, _ := w.readyz()
		return status == http.StatusServiceUnavailable
	})
	status, answer := w.readyz()
	if output := show(answer); status != http.StatusServiceUnavailable || !strings.Contains(output, "policy.max_age is 1s") || !strings.Contains(output, "unreachable") {
		t.Errorf("/readyz answered %d: %s", status, output)
	}
	line := w.log.wait(t, "of the age", message("active policy exceeds policy.max_age; every request is denied", nil))
	check(t, "log line", line, fields{"revision": revision})
	refused := w.anybody()
	w.connect(t, refused, raw).refused(t, 403, "policy_error")
	w.both(t, w.decision(t, refused), fields{"verdict": "deny", "reason": "policy_error", "revision": nil, "rule": nil})
	if n := w.counter(t, `sallyport_policy_rejected_total{kind="too_old"}`); n != 1 {
		t.Errorf("sallyport_policy_rejected_total counts %v", n)
	}
	changes := w.query(t, `SELECT kind, message FROM audit.policy_changes WHERE attributes ->> 'kind' = 'too_old'`)
	if len(changes) != 1 || changes[0]["kind"] != "policy_rejected" || !strings.Contains(show(changes[0]["message"]), "no policy is active, and every request is denied") {
		t.Errorf("on record: %v", changes)
	}

	if err := os.Rename(away, w.policy); err != nil {
		t.Fatal(err)
	}
	w.ready() // it polls by itself
	again := w.anybody()
	a = w.tunnel(t, again, raw)
	_ = a.conn.Close()
	w.both(t, w.decision(t, again), fields{"verdict": "allow", "rule": "raw", "revision": revision})
	if _, answer := w.readyz(); strings.Contains(show(answer), "last_reload_error") {
		t.Errorf("/readyz: %v", answer)
	}
	// A decision without a policy does not count as one of a policy.
	checkContains(t, w.operatorCommand(t, 0, "policy", "replay", "--as-decided", "--since", "1d"), "0 of 2 decisions do not come out")
}

// TestPolicyUnrecorded: a good revision whose content the database does not take
// does not decide, for its decisions could not be evaluated again. The last good one
// stays active, and the new one becomes active once it can be stored.
func TestPolicyUnrecorded(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	first := w.production()
	w.connect(t, first, "late.partner.example:443").refused(t, 403, "no_rule_matched")
	revision := w.decision(t, first)["revision"]

	w.alter(t, "REVOKE INSERT ON audit.policies FROM sallyport_writer")
	w.offer(t, "egress/late.rego", lateRule)
	line := w.log.wait(t, "of the refusal", message("policy rejected; keeping last good revision", fields{"kind": "unrecorded"}))
	check(t, "log line", line, fields{"revision": revision})
	if output := show(line["error"]); !strings.Contains(output, "permission denied") || !strings.Contains(output, "tried again") {
		t.Errorf("the log says %s", output)
	}
	status, answer := w.readyz()
	if output := show(answer); status != http.StatusOK || !strings.Contains(output, "last_reload_error_kind:unrecorded") {
		t.Errorf("/readyz answered %d: %s", status, output)
	}
	second := w.production()
	w.connect(t, second, "late.partner.example:443").refused(t, 403, "no_rule_matched")
	w.both(t, w.decision(t, second), fields{"revision": revision})
	counted := w.counter(t, `sallyport_policy_rejected_total{kind="unrecorded"}`)
	eventually(t, "it is tried again", func() bool {
		w.signal(syscall.SIGHUP)
		return w.counter(t, `sallyport_policy_rejected_total{kind="unrecorded"}`) > counted
	})
	rows := w.query(t, `SELECT kind, revision FROM audit.policy_changes WHERE attributes ->> 'kind' = 'unrecorded'`)
	if len(rows) != 1 || rows[0]["revision"] == revision {
		t.Errorf("on record: %v", rows)
	}

	w.alter(t, "GRANT INSERT ON audit.policies TO sallyport_writer")
	loaded := w.log.wait(t, "of the new policy", func(f fields) bool { return f["msg"] == "policy activated" && f["revision"] != revision })
	third := w.production()
	a := w.connect(t, third, "late.partner.example:443")
	_ = a.conn.Close()
	w.both(t, w.decision(t, third), fields{"verdict": "allow", "rule": "late", "revision": loaded["revision"]})
	if changes := w.query(t, `SELECT attributes FROM audit.policy_changes WHERE kind = 'policy_loaded' ORDER BY time`); len(changes) != 2 || strings.Contains(show(changes[1]["attributes"]), "decided_before") {
		t.Errorf("on record: %v", changes)
	}
	if _, answer := w.readyz(); strings.Contains(show(answer), "last_reload_error") {
		t.Errorf("/readyz: %v", answer)
	}
}
