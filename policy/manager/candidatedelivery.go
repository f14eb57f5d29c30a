package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// offered is a decision of the active policy, about a request or a webhook delivery. The
// other one is zero.
type offered struct {
	request  policy.Decision
	delivery webhook.Decision
}

// offerDelivery queues a decision about a webhook delivery, and never waits. Without rules
// about deliveries, the receiver's configured actions apply.
func (c *candidate) offerDelivery(d webhook.Decision, err error) {
	c.enqueue(offered{delivery: configuredWithoutRules(d, err)})
}

// configuredWithoutRules makes a decision of a policy without rules about deliveries the one
// that the configuration makes: an allow, whose routes are not known here.
func configuredWithoutRules(d webhook.Decision, err error) webhook.Decision {
	if errors.Is(err, webhook.ErrNoRules) {
		d.Verdict, d.Reason, d.Routes = policy.Allow, webhook.Configured, nil
	}
	return d
}

// evaluateDelivery evaluates the candidate for the input of a decision about a delivery, and
// records another verdict or other routes.
func (c *candidate) evaluateDelivery(ctx context.Context, decided webhook.Decision) {
	set := c.set.Load()
	if set == nil {
		return
	}
	would, err := set.ReplayDelivery(ctx, decided.Input)
	if ctx.Err() != nil {
		return
	}
	c.evaluated.Add(1)
	would = configuredWithoutRules(would, err)
	if errors.Is(err, webhook.ErrNoRules) {
		err, would.Revision = nil, set.Revision()
	}
	if err != nil {
		c.failed.Add(1)
	}
	switch {
	case would.Verdict == policy.Deny && decided.Verdict != policy.Deny, would.Verdict == decided.Verdict && would.WouldDeny && !decided.WouldDeny:
		c.closes.Add(1)
	case would.Verdict != decided.Verdict || would.WouldDeny != decided.WouldDeny:
		c.opens.Add(1)
	case would.Verdict == policy.Allow && (would.Reason == webhook.Configured) == (decided.Reason == webhook.Configured) && webhook.EqualRoutes(decided.Routes, would.Routes),
		would.Verdict != policy.Allow:
		return
	default:
		c.reroutes.Add(1)
	}
	c.recordDelivery(ctx, decided, would, err)
}

// recordDelivery records a difference, once for each receiver, event, repository and revision.
func (c *candidate) recordDelivery(ctx context.Context, decided, would webhook.Decision, failure error) {
	var input struct {
		Receiver, Event string
		Repository      struct {
			UUID, Project string
			FullName      string `json:"full_name"`
		}
	}
	if err := json.Unmarshal(decided.Input, &input); err != nil {
		return
	}
	r, routes, decidedRoutes := input.Repository, webhook.RoutesText(would.Routes), webhook.RoutesText(decided.Routes)
	key := fmt.Sprint("delivery ", input.Receiver, " ", input.Event, " ", r.UUID, r.FullName, decided.Revision.Digest, would.Revision.Digest, decided.Verdict, would.Verdict, would.WouldDeny, " ", decidedRoutes, " ", routes)
	e := &audit.Event{
		Kind: audit.KindCandidateMismatch, Action: "webhook", RepositoryUUID: r.UUID, Repository: r.FullName, Project: r.Project,
		Verdict: would.Verdict.String(), Mode: would.Mode.String(), WouldDeny: would.WouldDeny, Reason: string(would.Reason),
		Rule: would.Rule, Rules: would.Rules, Message: would.Message, Revision: would.Revision.Digest, Commit: would.Revision.Commit, RepositoryRevision: would.RepositoryRevision.Digest,
		Input: decided.Input,
	}
	for _, a := range []audit.Attribute{
		{Name: "receiver", Value: input.Receiver}, {Name: "event", Value: input.Event}, {Name: "routes", Value: routes},
		{Name: "decided_verdict", Value: decided.Verdict.String()}, {Name: "decided_reason", Value: string(decided.Reason)},
		{Name: "decided_rule", Value: decided.Rule}, {Name: "decided_revision", Value: decided.Revision.Digest}, {Name: "decided_routes", Value: decidedRoutes},
	} {
		if a.Value != "" {
			e.Attributes = append(e.Attributes, a)
		}
	}
	c.recordOnce(ctx, key, failure, e)
}
