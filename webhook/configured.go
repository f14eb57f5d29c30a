package webhook

import (
	"context"

	"github.com/sallyport/sallyport/policy"
)

// triggers are the events that cause an action which reads the event. Every event
// causes the other actions.
var triggers = map[Action]map[Kind][]string{
	RefreshPolicy: {Cloud: {"repo:push", "pullrequest:fulfilled"}, DataCenter: {"repo:refs_changed", "pr:merged"}},
	RefreshResource: {
		Cloud:      {"repo:push", "pullrequest:fulfilled", "pullrequest:rejected"},
		DataCenter: {"repo:refs_changed", "mirror:repo_synchronized", "pr:merged", "pr:declined"},
	},
	// Names come from Bitbucket Cloud's API.
	RefreshNames: {Cloud: {"repo:updated", "repo:transfer", "repo:deleted", "project:updated"}},
}

// TriggeredBy reports whether a delivery with this event key can cause the action.
func (a Action) TriggeredBy(kind Kind, key string) bool {
	events, limited := triggers[a]
	if !limited {
		return IsEvent(kind, key)
	}
	for _, event := range events[kind] {
		if event == key {
			return true
		}
	}
	return false
}

// ConfiguredActions is the [Decider] of a policy without package sallyport.webhook: a
// delivery causes the actions that its receiver's configuration lists, and no other. It
// must not be changed while it is used.
type ConfiguredActions struct {
	// Routes are the actions of each receiver, by its name. A receiver that is missing
	// here is denied.
	Routes map[string][]Route
	// AffectsPolicy reports whether an event may have changed the branch that policy is
	// read from. Nil: every push does.
	AffectsPolicy func(*Event) bool
}

// DecideDelivery allows the delivery with those of the receiver's actions that the event
// triggers. The error is always nil.
func (c ConfiguredActions) DecideDelivery(_ context.Context, d *Delivery) (Decision, error) {
	routes, known := c.Routes[d.Receiver]
	if !known {
		return Decision{Reason: policy.PolicyError}, nil
	}
	decision := Decision{Verdict: policy.Allow, Reason: Configured}
	for _, route := range routes {
		if !route.Action.TriggeredBy(d.Event.Kind, d.Event.Key) {
			continue
		}
		if route.Action == RefreshPolicy && c.AffectsPolicy != nil && !c.AffectsPolicy(d.Event) {
			continue
		}
		decision.Routes = append(decision.Routes, route)
	}
	return decision, nil
}
