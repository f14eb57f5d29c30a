package e2e

import (
	"fmt"
	"testing"
)

// TestPolicyToolsOnAServerLog: what a real server recorded is reproduced by the
// policy that the log has stored, from an embedded database as from another, and a
// policy that did not change changes nothing.
func TestPolicyToolsOnAServerLog(t *testing.T) {
	t.Parallel()
	for _, embedded := range []bool{false, true} {
		t.Run(fmt.Sprintf("embedded=%t", embedded), func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{embedded: embedded})
			w.start()
			denied := w.connect(t, w.production(), "paste.unlisted.example:443").refused(t, 403, "policy_denied")
			unmatched := w.connect(t, w.caller(w.Payments, nil, "feature/x"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
			target, c := echo(t), w.anybody()
			a := w.tunnel(t, c, "raw.partner.example:"+target.port)
			_ = a.conn.Close()
			allowed := w.decision(t, c)["decision_id"].(string)
			for id, reason := range map[string]string{denied: "policy_denied", unmatched: "no_rule_matched", allowed: "policy_allowed"} {
				checkContains(t, w.operatorCommand(t, 0, "policy", "explain", id), "\nreproduced\n", "reason       "+reason, "the first condition that did not hold\n")
			}
			checkContains(t, w.operatorCommand(t, 0, "policy", "replay", w.policy, "--since", "1h", "--fail-on", "any"), "0 of 3 decisions would differ")
			checkContains(t, w.operatorCommand(t, 0, "policy", "who-can", w.policy, "--to", "raw.partner.example:"+target.port), " by raw\n")
			checkContains(t, w.operatorCommand(t, 0, "policy", "rollout", w.policy), "acme/payments")
		})
	}
}
