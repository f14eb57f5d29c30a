package policycmd

import (
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// TestReproductionOfLimits: a request that a limit refused may have been allowed by policy, or
// denied if its step is refused too often; a denial by another rule is not reproduced.
func TestReproductionOfLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason policy.Reason
		now    policy.Decision
		want   bool
	}{
		{policy.StepLimit, policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "r"}, true},
		{policy.StepLimit, policy.Decision{Reason: policy.PolicyDenied, Rule: "r"}, true},
		{policy.RepositoryLimit, policy.Decision{Reason: policy.PolicyDenied, Rule: "r"}, true},
		{policy.StepLimit, policy.Decision{Reason: policy.PolicyDenied, Rule: "other"}, false},
		{policy.AddressProhibited, policy.Decision{Reason: policy.PolicyDenied, Rule: "r"}, false},
		{policy.PolicyDenied, policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "r"}, false},
	} {
		d := &audit.Decided{Kind: audit.KindDecision, Verdict: "deny", Mode: "enforce", Reason: string(c.reason), Rule: "r"}
		if r := reproduction(d, c.now, nil); r.Reproduced != c.want {
			t.Errorf("recorded %s, now %s %s by %s: %+v", c.reason, c.now.Verdict, c.now.Reason, c.now.Rule, r)
		}
	}
}
