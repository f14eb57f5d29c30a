package webhook

import (
	"context"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// ErrNoRules is the error of a decider whose policy has no rules about deliveries: the
// configuration decides.
var ErrNoRules = errors.New("policy: there is no package sallyport.webhook")

// PolicyDecider decides by the rules of the active policy about deliveries, and by the
// configuration if the policy has none. It must not be changed while it is used.
type PolicyDecider struct {
	Policy     Decider // its error wraps [ErrNoRules] if the active policy has no such rules
	Configured ConfiguredActions
}

// DecideDelivery returns the decision of the policy. A delivery that the policy allows
// takes the receiver's configured actions that its event triggers, and the routes of the
// policy's rules. Errors are those of the policy; the decision then denies.
func (p PolicyDecider) DecideDelivery(ctx context.Context, d *Delivery) (Decision, error) {
	decision, err := p.Policy.DecideDelivery(ctx, d)
	if errors.Is(err, ErrNoRules) {
		configured, err := p.Configured.DecideDelivery(ctx, d)
		configured.Input, configured.Revision, configured.Duration = decision.Input, decision.Revision, decision.Duration
		return configured, err
	}
	if err != nil || decision.Verdict != policy.Allow {
		decision.Verdict, decision.Routes = policy.Deny, nil
		return decision, err
	}
	configured, err := p.Configured.DecideDelivery(ctx, d)
	if err != nil || configured.Verdict != policy.Allow {
		return Decision{Reason: policy.PolicyError, Revision: decision.Revision, Input: decision.Input, Duration: decision.Duration}, err
	}
	for _, r := range configured.Routes {
		same := func(o Route) bool { return o.Action == r.Action && o.Endpoint == r.Endpoint }
		if !slices.ContainsFunc(decision.Routes, same) {
			decision.Routes = append(decision.Routes, r)
		}
	}
	return decision, nil
}
