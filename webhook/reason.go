package webhook

import "github.com/sallyport/sallyport/policy"

// The reasons of decisions about verified deliveries, beside those of a policy. They are
// documented in docs/reasons.md.
const (
	Configured           policy.Reason = "webhook_configured"            // allowed by the configuration: the policy has no package sallyport.webhook
	RepositoryNotAllowed policy.Reason = "webhook_repository_not_listed" // the receiver's repositories do not contain the delivery's
	EventNotAllowed      policy.Reason = "webhook_event_not_listed"      // the receiver's events do not contain the delivery's
)
