package webhookserver

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// decider decides by the policy, or by the configuration where the active policy has no
// rules about deliveries. Without an active policy everything is denied.
type decider struct {
	policy     webhook.Decider
	configured webhook.ConfiguredActions
}

func newDecider(c Config) decider {
	routes := map[string][]webhook.Route{}
	for _, r := range c.Webhooks.Receivers {
		routes[r.Name] = routesOf(r)
	}
	return decider{c.Policy, webhook.ConfiguredActions{Routes: routes, AffectsPolicy: c.AffectsPolicy}}
}

func routesOf(r config.WebhookReceiver) []webhook.Route {
	var routes []webhook.Route
	for _, action := range r.Actions {
		routes = append(routes, webhook.Route{Action: action})
	}
	for _, endpoint := range r.ForwardTo {
		routes = append(routes, webhook.Route{Action: webhook.Forward, Endpoint: endpoint})
	}
	return routes
}

// DecideDelivery implements [webhook.Decider]. A decision by the configuration has the
// input and the revision that the policy would have decided with.
func (d decider) DecideDelivery(ctx context.Context, delivery *webhook.Delivery) (webhook.Decision, error) {
	decision, err := d.policy.DecideDelivery(ctx, delivery)
	if !errors.Is(err, webhook.ErrNoRules) {
		return decision, err
	}
	configured, err := d.configured.DecideDelivery(ctx, delivery)
	configured.Input, configured.Revision, configured.Duration = decision.Input, decision.Revision, decision.Duration
	return configured, err
}

// AffectsPolicy returns the check of whether an event may have changed the branch or tag
// from which policy is read; nil if policy does not come from Git.
func AffectsPolicy(p *config.Policy) func(*webhook.Event) bool {
	if p.Git == nil {
		return nil
	}
	return func(e *webhook.Event) bool {
		if p.Git.Tag != "" {
			return webhook.AffectsTag(e, p.Git.Tag)
		}
		return webhook.AffectsBranch(e, p.Git.Branch) || p.Candidate != nil && webhook.AffectsBranch(e, p.Candidate.Branch)
	}
}
