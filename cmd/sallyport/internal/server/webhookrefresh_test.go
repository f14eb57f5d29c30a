package server

import (
	"context"
	"errors"
	"testing"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookserver"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

type fixedDecider struct {
	decision webhook.Decision
	err      error
}

func (f fixedDecider) DecideDelivery(context.Context, *webhook.Delivery) (webhook.Decision, error) {
	return f.decision, f.err
}

// TestOnlyThePolicyBranchRefreshes: whatever decided, a push to another branch, a tag or a
// deletion keeps its other routes and does not refresh policy.
func TestOnlyThePolicyBranchRefreshes(t *testing.T) {
	t.Parallel()
	push := func(kind webhook.RefType, name string, change webhook.Change) *webhook.Event {
		return &webhook.Event{Kind: webhook.Cloud, Key: "repo:push", Refs: []webhook.Ref{{Type: kind, Name: name, Change: change}}}
	}
	forward, refresh := webhook.Route{Action: webhook.Forward, Endpoint: "jenkins"}, webhook.Route{Action: webhook.RefreshPolicy}
	failure := errors.New("no decision")
	for name, c := range map[string]struct {
		git     *config.Git
		event   *webhook.Event
		refresh bool
	}{
		"the branch":           {&config.Git{Branch: "main"}, push(webhook.Branch, "main", webhook.Updated), true},
		"another branch":       {&config.Git{Branch: "main"}, push(webhook.Branch, "dev", webhook.Updated), false},
		"the branch's end":     {&config.Git{Branch: "main"}, push(webhook.Branch, "main", webhook.Deleted), false},
		"a tag of its name":    {&config.Git{Branch: "main"}, push(webhook.Tag, "main", webhook.Created), false},
		"the tag":              {&config.Git{Tag: "live"}, push(webhook.Tag, "live", webhook.Updated), true},
		"a branch of its name": {&config.Git{Tag: "live"}, push(webhook.Branch, "live", webhook.Updated), false},
		"a directory":          {nil, push(webhook.Branch, "main", webhook.Updated), false},
	} {
		cfg := &config.Config{}
		cfg.Policy.Git = c.git
		made := webhook.Decision{Verdict: policy.Allow, Rule: "r", Routes: []webhook.Route{refresh, forward}}
		got, err := policyRefreshes{fixedDecider{made, failure}, webhookserver.AffectsPolicy(&cfg.Policy)}.DecideDelivery(t.Context(), &webhook.Delivery{Event: c.event})
		want := 1
		if c.refresh {
			want = 2
		}
		if !errors.Is(err, failure) || got.Verdict != policy.Allow || got.Rule != "r" || len(got.Routes) != want || got.Routes[want-1] != forward {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}
