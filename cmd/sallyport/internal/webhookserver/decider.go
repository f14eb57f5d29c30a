package webhookserver

import (
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/webhook"
)

// newDecider decides by the policy, or by the configuration if the active policy has no
// rules about deliveries. Without an active policy everything is denied.
func newDecider(c Config) webhook.Decider {
	return webhook.PolicyDecider{Policy: c.Policy, Configured: webhook.ConfiguredActions{Routes: c.Webhooks.Routes(), AffectsPolicy: c.AffectsPolicy}}
}

// AffectsPolicy returns the check of whether an event may have changed the branch or tag
// from which policy is read; nil if policy does not come from Git. An event of a repository
// that is known to be another one may not have: any repository may have such a branch. A
// merge of a pull request is an event of its destination's repository.
func AffectsPolicy(p *config.Policy) func(*webhook.Event) bool {
	if p.Git == nil {
		return nil
	}
	return func(e *webhook.Event) bool {
		if p.Git.URL != nil {
			if same, known := e.FromRepository(p.Git.URL.String()); known && !same {
				return false
			}
		}
		if p.Git.Tag != "" {
			return webhook.AffectsTag(e, p.Git.Tag)
		}
		return webhook.AffectsBranch(e, p.Git.Branch) || p.Candidate != nil && webhook.AffectsBranch(e, p.Candidate.Branch)
	}
}
