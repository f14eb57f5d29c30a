package webhook

import (
	"context"
	"errors"

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

// DecideDelivery returns the decision of the policy, whose routes are those of its rules.
// The configured actions of the receiver apply only if the policy has no rules about
// deliveries. Errors are those of the policy; the decision then denies.
func (p PolicyDecider) DecideDelivery(ctx context.Context, d *Delivery) (Decision, error) {
	decision, err := p.Policy.DecideDelivery(ctx, d)
	if errors.Is(err, ErrNoRules) {
		configured, err := p.Configured.DecideDelivery(ctx, d)
		configured.Input, configured.Revision, configured.Duration = decision.Input, decision.Revision, decision.Duration
		return configured, err
	}
	if err != nil || decision.Verdict != policy.Allow {
		decision.Verdict, decision.Routes = policy.Deny, nil
	}
	return decision, err
}
