package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Inquiry is a request of a verified step to this proxy itself. The caller bounds the rate
// of inquiries.
type Inquiry struct {
	Principal *identity.Principal
	Client    netip.AddrPort
	Peer      netip.Addr // as in [Attempt]
	Listener  string
}

// Evaluated is the decision about a target that a step asked for.
type Evaluated struct {
	Target   string // in its canonical form, or as sent if it has none
	Decision policy.Decision
	// Refusal is what a CONNECT to the target would get; nil: the policy allows it.
	Refusal *Refusal
	ID      string // of its event
}

// evaluation returns the evaluation of an inquiry about a target.
func (g *Gate) evaluation(of *Inquiry, target string) *evaluation {
	now := g.config.Now()
	return &evaluation{gate: g, began: now, started: now.UTC().Truncate(time.Microsecond), principal: of.Principal,
		attempt: Attempt{Action: policy.Connect, Target: target, Client: of.Client, Peer: of.Peer, Listener: of.Listener}}
}

// Evaluate decides on a CONNECT to a target without a connection: no name is resolved, and
// nothing is reserved. It returns once the event target_evaluated is durable. If that fails,
// it returns a refusal of the inquiry itself, and no decision. It is safe for concurrent use.
func (g *Gate) Evaluate(ctx context.Context, of *Inquiry, target string) (Evaluated, *Refusal) {
	p := g.evaluation(of, target)
	err := p.parseTarget()
	var refusal *Refusal
	if err != nil {
		refusal = refuse(policy.TargetInvalid, clientDetail(err))
	} else {
		refusal = p.evaluate(ctx)
	}
	verdict, reason := policy.Allow, p.decision.Reason
	if refusal != nil {
		verdict, reason = policy.Deny, refusal.Reason
	}
	e := p.event(verdict, reason)
	e.Kind = audit.KindTargetEvaluated
	if refusal != nil {
		if reason == policy.PolicyDenied || reason == policy.NoRuleMatched {
			refusal.Message = p.decision.Message
		}
		e.Message = cmp.Or(refusal.Message, refusal.Detail)
		refusal.DecisionID, refusal.Rule = p.id, p.decision.Rule
	}
	shown := e.TargetRaw
	if p.target.Host != "" {
		shown = p.target.String()
	}
	if err := p.write(ctx, e); err != nil {
		g.failures.failed(ctx, g.config.Log, "evaluation of a target not recorded", err, slog.String("decision_id", p.id))
		return Evaluated{}, refuse(policy.AuditUnavailable, recordDetail(err))
	}
	return Evaluated{Target: shown, Decision: p.decision, Refusal: refusal, ID: p.id}, nil
}

// activeTarget is the target by which [Gate.Active] asks for the mode. Its top-level domain
// never exists (RFC 6761 section 6.4).
const activeTarget = "sallyport-step.invalid:443"

// Active returns the mode of the policy for a step, and the active revision. The decision
// behind it is about a fixed name that does not exist, and is not recorded.
func (g *Gate) Active(ctx context.Context, of *Inquiry) (policy.Mode, policy.Revision) {
	p := g.evaluation(of, activeTarget)
	if p.parseTarget() != nil {
		return policy.Enforce, policy.Revision{}
	}
	_ = p.evaluate(ctx)
	return p.decision.Mode, p.decision.Revision
}

// StepLimits returns the limits of one step. A zero field is not a limit.
func (g *Gate) StepLimits() Limit { return g.config.Limits.Step }

// NetworkResult is one result of a network check, already validated by the caller.
type NetworkResult struct {
	Test, Address, Network, Outcome, Detail string
}

// RecordNetworkCheck records what a step states about its network as network_checked, and
// returns nil once that is durable. outcome is that of the whole check.
func (g *Gate) RecordNetworkCheck(ctx context.Context, of *Inquiry, outcome string, results []NetworkResult) *Refusal {
	p := g.evaluation(of, "")
	e := &audit.Event{Time: p.started, Kind: audit.KindNetworkChecked, Listener: of.Listener, ClientAddress: of.Client.Addr().Unmap(), Source: p.source()}
	copyPrincipal(e, of.Principal)
	e.Attributes = networkAttributes(outcome, results)
	if err := p.write(ctx, e); err != nil {
		g.failures.failed(ctx, g.config.Log, "network check not recorded", err)
		return refuse(policy.AuditUnavailable, recordDetail(err))
	}
	return nil
}

// networkAttributes are the attributes of network_checked: the outcome, the names of the
// tests, and the results that are not "blocked".
func networkAttributes(outcome string, results []NetworkResult) []audit.Attribute {
	var tests, open, failed []string
	for _, r := range results {
		if !slices.Contains(tests, r.Test) {
			tests = append(tests, r.Test)
		}
		line := r.Test + " " + r.Address + " " + r.Network
		if r.Detail != "" {
			line += ": " + r.Detail
		}
		switch r.Outcome {
		case "blocked":
		case "open":
			open = append(open, line)
		default:
			failed = append(failed, line)
		}
	}
	list := []audit.Attribute{{Name: "outcome", Value: outcome}, {Name: "tests", Value: strings.Join(tests, ", ")}}
	if len(open) > 0 {
		list = append(list, audit.Attribute{Name: "open_results", Value: strings.Join(open, "; ")})
	}
	if len(failed) > 0 {
		list = append(list, audit.Attribute{Name: "failed_results", Value: strings.Join(failed, "; ")})
	}
	return list
}
