package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/selftest"
)

// TestSelfTest: the probes pass and are recorded; when policy allows everything,
// it is found out; and no step gets to where the probes do.
func TestSelfTest(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{extra: "self_test: {interval: 1s}\n", tls: true})
	w.start()
	latest := func(outcome string) []fields {
		return w.query(t, "SELECT message, attributes FROM audit.self_tests WHERE outcome = $1 ORDER BY time DESC LIMIT 1", outcome)
	}
	eventually(t, "a self-test passes", func() bool { return len(latest("passed")) > 0 })
	output := latest("passed")[0]["attributes"].(map[string]any)
	for _, probe := range []struct{ name, verdict, reason string }{{"refused", "deny", "no_rule_matched"}, {"allowed", "allow", "policy_allowed"}} {
		id := output[probe.name+"_decision_id"]
		rows := w.query(t, "SELECT verdict, reason, host, credential_kind, revision, close_reason, listener FROM audit.all_decisions WHERE decision_id = $1", id)
		if len(rows) != 1 || rows[0]["verdict"] != probe.verdict || rows[0]["reason"] != probe.reason || rows[0]["credential_kind"] != selftest.Kind ||
			rows[0]["revision"] == nil || (rows[0]["close_reason"] != nil) != (probe.verdict == "allow") {
			t.Errorf("%s: %v", probe.name, rows)
		}
	}
	if rows := w.query(t, "SELECT FROM audit.decisions WHERE credential_kind = $1 UNION ALL SELECT FROM audit.denials WHERE credential_kind = $1", selftest.Kind); len(rows) > 0 {
		t.Errorf("%d probes are in the views of clients", len(rows))
	}
	if ready, answer := w.readyz(); ready != http.StatusOK || answer["detail"].(map[string]any)["self_test"].(map[string]any)["outcome"] != "passed" {
		t.Errorf("%d, %v", ready, answer)
	}

	// In report mode the probe is refused by nothing but its name, and no alarm is raised.
	observed := "package sallyport.egress\n\nreport contains {\"rule\": \"observed\"} if input.target.port > 0\n"
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "observed.rego"), []byte(observed), 0o644); err != nil {
		t.Fatal(err)
	}
	w.operatorCommand(t, 0, "policy", "reload")
	eventually(t, "a self-test passes in report mode", func() bool {
		rows := latest("passed")
		output := rows[0]["attributes"].(map[string]any)
		message, _ := rows[0]["message"].(string)
		return output["refused_mode"] == "report" && output["refused_outcome"] == "would_deny" && strings.Contains(message, "report mode")
	})
	if rows := w.query(t, "SELECT FROM audit.self_tests WHERE outcome <> 'passed'"); len(rows) > 0 || strings.Contains(w.log.text(), "self-test could not be made") {
		t.Errorf("%d self-tests did not pass", len(rows))
	}

	// A policy that allows everything is detected there too.
	rule := "package sallyport.egress\n\nallow contains {\"rule\": \"everything\"} if input.target.port > 0\n"
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "everything.rego"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	w.operatorCommand(t, 0, "policy", "reload")
	eventually(t, "a self-test fails", func() bool { return len(latest("failed")) > 0 })
	if why, _ := latest("failed")[0]["message"].(string); !strings.Contains(why, "policy lets it out") {
		t.Error(why)
	}
	eventually(t, "the figure", func() bool {
		_, metrics := w.get("/metrics")
		return strings.Contains(metrics, "sallyport_self_test_failed 1")
	})
	if !strings.Contains(w.log.text(), "SELF-TEST FAILED") {
		t.Error("the log does not say it")
	}
	// The policy would let a step out, and the way to the echo is there.
	c := w.production()
	if _, err := w.client(t, c).Get("https://" + selftest.EchoHost + "/"); err == nil || !strings.Contains(err.Error(), "policy_denied") {
		t.Errorf("a step asked for the echo: %v", err)
	}
	if rows := w.query(t, "SELECT rule FROM audit.denials WHERE step_uuid = $1", c.step.UUID); len(rows) != 1 || rows[0]["rule"] != selftest.Rule {
		t.Errorf("%v", rows)
	}
}
