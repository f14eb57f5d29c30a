package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/policy"
)

// decide evaluates the policy, and records a denial.
func (p *evaluation) decide(ctx context.Context) *Refusal {
	if r := p.evaluate(ctx); r != nil {
		return p.deny(ctx, r)
	}
	// A log known to be unavailable refuses before the name is looked up: a DNS query is
	// a message to the operator of the zone.
	if err := p.gate.config.Recorder.AvailableTo(p.source()); err != nil {
		p.gate.failures.failed(ctx, p.gate.config.Log, "audit log unavailable", err)
		return p.deny(ctx, refuse(policy.AuditUnavailable, recordDetail(err)))
	}
	return nil
}

// evaluate evaluates the policy, and returns the refusal of a target that is not allowed.
func (p *evaluation) evaluate(ctx context.Context) *Refusal {
	request := &policy.Request{
		Principal:     p.principal,
		Action:        p.attempt.Action,
		Target:        p.target,
		HTTP:          p.attempt.HTTP,
		ClientAddress: p.attempt.Client.Addr().Unmap(),
		Time:          p.started,
	}
	decided := p.stage("decide")
	decision, err := p.gate.config.Decider.Decide(ctx, request)
	decided()
	p.decision = decision
	if err != nil {
		p.gate.config.Log.ErrorContext(ctx, "policy could not be evaluated", "error", err)
		return p.undecided(err)
	}
	if decision.Verdict != policy.Allow {
		switch reason := cmp.Or(decision.Reason, policy.NoRuleMatched); reason {
		case policy.PolicyDenied, policy.NoRuleMatched:
			return refuse(reason, decision.Notice)
		}
		return p.undecided(nil)
	}
	if end := decision.Expires; !end.IsZero() && !p.started.Before(end) {
		p.gate.config.Log.ErrorContext(ctx, "policy allowed what had expired", "expires", end)
		return p.undecided(nil)
	}
	p.decision.Reason = cmp.Or(decision.Reason, policy.PolicyAllowed)
	// Neither report mode nor a fault of the decider lifts this check.
	if p.target.IsAddress() && !decision.Address {
		return refuse(policy.AddressProhibited,
			`the target is an IP address, and no rule that allows it sets "allow_ip_literal": true`)
	}
	return nil
}

// undecided returns the refusal where the policy has no decision. It uses only the evaluated
// revisions and input of the decider's result, and the part of the error that a client
// may read.
func (p *evaluation) undecided(err error) *Refusal {
	d := &p.decision
	detail := "the policy could not be evaluated"
	switch e, ok := errors.AsType[interface {
		error
		ClientText() string
	}](err); {
	case ok:
		detail = e.ClientText()
	case d.Notice != "":
		detail += "; " + d.Notice
	}
	p.decision = policy.Decision{Revision: d.Revision, RepositoryRevision: d.RepositoryRevision, Input: d.Input, Duration: d.Duration}
	return refuse(policy.PolicyError, detail)
}

// checkQuota finds the quota of the step where the decision has a limit per step, and
// refuses a step that has no bytes left.
func (p *evaluation) checkQuota(ctx context.Context) *Refusal {
	limits := p.decision.Limits
	if limits.StepSent == 0 && limits.StepReceived == 0 {
		return nil
	}
	p.quota = p.gate.quotas.forPrincipal(p.principal, p.began)
	switch {
	case p.quota == nil:
		return p.deny(ctx, refuse(policy.RepositoryLimit, "the bytes of as many steps as may be are counted already; steps are forgotten after a day"))
	case limits.StepSent > 0 && p.quota.sent.Load() >= limits.StepSent:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has sent all of the %d bytes that its rule allows", limits.StepSent)))
	case limits.StepReceived > 0 && p.quota.received.Load() >= limits.StepReceived:
		return p.deny(ctx, refuse(policy.StepLimit, fmt.Sprintf("this step has received all of the %d bytes that its rule allows", limits.StepReceived)))
	}
	return nil
}
