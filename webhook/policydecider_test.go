package webhook

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestPolicyDecider(t *testing.T) {
	t.Parallel()
	configured := ConfiguredActions{Routes: map[string][]Route{"builds": {{Action: RefreshPolicy}, {Action: Forward, Endpoint: "jenkins"}}}}
	routes := []Route{{Action: Forward, Endpoint: "jenkins", Rule: "to-jenkins"}, {Action: Forward, Endpoint: "kargo", Rule: "to-kargo"}}
	for name, c := range map[string]struct {
		receiver string
		decision Decision
		err      error
		want     string
	}{
		"without rules":          {"builds", Decision{Reason: policy.PolicyError}, fmt.Errorf("x: %w", ErrNoRules), "allow webhook_configured [{refresh_policy  } {forward jenkins }]"},
		"allowed":                {"builds", Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Routes: routes}, nil, "allow policy_allowed [{forward jenkins to-jenkins} {forward kargo to-kargo}]"},
		"allowed, without route": {"builds", Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed}, nil, "allow policy_allowed []"},
		"would be denied":        {"builds", Decision{Verdict: policy.Allow, Reason: policy.NoRuleMatched, Mode: policy.Report, WouldDeny: true}, nil, "allow no_rule_matched []"},
		"denied":                 {"builds", Decision{Reason: policy.PolicyDenied, Routes: routes}, nil, "deny policy_denied []"},
		"an error that allows":   {"builds", Decision{Verdict: policy.Allow, Reason: policy.PolicyError, Routes: routes}, errors.New("x"), "deny policy_error [] x"},
		"an unknown receiver":    {"other", Decision{Reason: policy.PolicyError}, ErrNoRules, "deny policy_error []"},
	} {
		decider := PolicyDecider{Configured: configured, Policy: deciderFunc(func(context.Context, *Delivery) (Decision, error) { return c.decision, c.err })}
		d, err := decider.DecideDelivery(t.Context(), &Delivery{Receiver: c.receiver, Event: &Event{Kind: Cloud, Key: "repo:push"}})
		got := fmt.Sprintf("%v %s %v", d.Verdict, d.Reason, d.Routes)
		if err != nil {
			got += " " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}
