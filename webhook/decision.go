package webhook

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Action is what a route does with a delivery.
type Action string

// The actions.
const (
	RefreshPolicy   Action = "refresh_policy"   // every instance fetches the policy repository now
	Forward         Action = "forward"          // the body is sent to an endpoint
	RefreshNames    Action = "refresh_names"    // the names of repositories are fetched again
	RefreshResource Action = "refresh_resource" // a resource outside, such as a Kargo Warehouse, is refreshed
)

// Route is one action that a decision orders for a delivery.
type Route struct {
	Action   Action `json:"action"`
	Endpoint string `json:"endpoint,omitempty"` // Forward and RefreshResource: the configured name
	Rule     string `json:"rule,omitempty"`     // empty: an action of the receiver's configuration
}

// Decision is the result of one evaluation of a delivery. The zero value denies.
type Decision struct {
	Verdict policy.Verdict
	Reason  policy.Reason
	Rule    string   // the id of the rule that decided; empty where none did
	Rules   []string // every rule that matched, the deciding ones first
	Message string   // the policy author's message
	// Mode is report where a denial is not enforced, and WouldDeny is true where the
	// delivery passes only because of that; Reason is then that of the denial.
	Mode      policy.Mode
	WouldDeny bool
	Revision  policy.Revision
	// RepositoryRevision is the earlier revision whose rules of the repository were
	// evaluated. Zero: those of Revision.
	RepositoryRevision policy.Revision
	Routes             []Route // empty where the verdict is deny
	Input              []byte  // the canonical JSON that was evaluated
	Duration           time.Duration
}

// Decider decides about verified deliveries. Its methods are called concurrently.
type Decider interface {
	// DecideDelivery returns the decision about a delivery. An error means that no decision
	// could be made; the delivery is then denied with the reason of the returned decision.
	DecideDelivery(ctx context.Context, d *Delivery) (Decision, error)
}

// Outcome is what a queue did with a delivery. The zero value is invalid: the response
// then requests that the sender repeat the delivery.
type Outcome uint8

// The outcomes.
const (
	Accepted Outcome = iota + 1 // committed with its event
	Repeated                    // accepted before: not committed again
)

// Queue commits deliveries. Its methods are called concurrently.
type Queue interface {
	// Accept commits the audit event of the delivery and, if the verdict is allow, the
	// delivery with its routes, in one transaction. It returns once both are durable. An
	// error means that nothing is known to be committed; the sender is then answered 503.
	Accept(ctx context.Context, d *Delivery, decision Decision) (Outcome, error)
}
