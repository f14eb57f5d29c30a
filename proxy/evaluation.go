package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// evaluation is the evaluation of one attempt by the gate. Its steps run in order,
// each at most once.
type evaluation struct {
	gate    *Gate
	attempt Attempt
	began   time.Time // with the monotonic clock, for durations
	started time.Time // the decision's time: UTC, whole microseconds
	id      string

	target            destination.Target
	path              string // path and query of an absolute-form target
	principal         *identity.Principal
	credentialRefused bool       // its credential, so that it is known for the record alone
	acquired          bool       // its step has room under the limits
	overRefusals      bool       // refused too often to be recorded
	slot              fair.Slot  // its place under them
	quota             *byteQuota // what its step has sent and received, where the decision bounds that
	decision          policy.Decision
	upstream          *UpstreamProxy // nil: directly
	pinned            []netip.AddrPort
	prohibited        []string // what was resolved and must not be dialled, with its class
}

// authenticate parses the target, authenticates the credential and acquires a slot
// under the limits of the step. The target comes first, so that every later step has
// its canonical form. Its refusal waits for the principal, so that the record of the
// refusal names the step.
func (p *evaluation) authenticate(ctx context.Context) *Refusal {
	parseErr := p.parseTarget()
	err := p.attempt.CredentialError
	if err == nil && p.attempt.Credential.IsZero() {
		err = &identity.Error{Problem: identity.CredentialMissing, Detail: "no Proxy-Authorization was sent"}
	}
	if err == nil {
		p.principal, err = p.verifyCredential(ctx)
	}
	if parseErr != nil {
		if e, ok := errors.AsType[*identity.Error](err); ok {
			p.attribute(e)
		}
		if err == nil {
			if over := p.acquire(ctx); over != nil {
				return over
			}
		}
		return p.refuseUnread(ctx, policy.TargetInvalid, clientDetail(parseErr))
	}
	if err != nil {
		return p.refuseUnidentified(ctx, err)
	}
	return p.acquire(ctx)
}

func (p *evaluation) parseTarget() (err error) {
	switch p.attempt.Action {
	case policy.Connect:
		p.target, err = destination.ParseAuthority(p.attempt.Target)
	case policy.Forward:
		p.target, p.path, err = destination.ParseAbsolute(p.attempt.Target)
		if h := p.attempt.HTTP; err == nil && h != nil && h.Method == http.MethodOptions && !destination.HasPath(p.attempt.Target) {
			p.path = "*" // RFC 9112 section 3.2.4
		}
	default:
		err = errors.New("the request is neither a CONNECT nor in absolute form")
	}
	return err
}

func clientDetail(err error) string {
	if e, ok := errors.AsType[*destination.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

func (p *evaluation) verifyCredential(ctx context.Context) (*identity.Principal, error) {
	defer p.stage("authenticate")()
	principal, err := p.gate.config.Authenticator.Authenticate(identity.WithClient(ctx, host(p.attempt.Client.Addr())), p.attempt.Credential)
	if err == nil && principal == nil {
		return nil, errors.New("the authenticator returned neither a principal nor an error")
	}
	if err != nil {
		return nil, err
	}
	return principal, nil
}

// refuseUnread answers an attempt whose target cannot be read.
func (p *evaluation) refuseUnread(ctx context.Context, reason policy.Reason, detail string) *Refusal {
	r := refuse(reason, detail)
	if p.principal == nil {
		return p.countOnly(r)
	}
	return p.deny(ctx, r)
}

// attribute records the principal of a credential that was refused.
func (p *evaluation) attribute(e *identity.Error) {
	p.principal, p.credentialRefused = e.Principal, !e.Problem.Unavailable()
}

// mayRecord reports whether a refusal is recorded. Behind [evaluation.acquire] the
// limits of requests bound that; before it nothing else does.
func (p *evaluation) mayRecord() bool {
	return p.acquired || p.gate.refusals.take(p.principal, p.credentialRefused, p.attempt.Client.Addr(), p.started)
}

// refuseStopped answers an attempt during an emergency stop: with nothing else,
// whoever asks for whatever. Who it was is still found out, for the record.
func (p *evaluation) refuseStopped(ctx context.Context) *Refusal {
	_ = p.parseTarget() // what cannot be read is recorded as it came
	if p.attempt.CredentialError == nil && !p.attempt.Credential.IsZero() {
		principal, err := p.verifyCredential(ctx)
		p.principal = principal
		if e, ok := errors.AsType[*identity.Error](err); ok {
			p.attribute(e)
		}
	}
	return p.refuseUnread(ctx, policy.EmergencyStop, "an operator has stopped everything")
}

// refuseUnidentified answers an attempt whose credential is not accepted. No
// credential at all is counted and not recorded: git and Java try without one
// on every connection. The others are recorded and logged, but for what one
// address sends over its rate.
func (p *evaluation) refuseUnidentified(ctx context.Context, err error) *Refusal {
	r := refuse(policy.InternalError, "the credential could not be checked")
	e, ok := errors.AsType[*identity.Error](err)
	if ok {
		r = refuse(policy.Reason(e.Problem), e.Detail)
		p.attribute(e)
	}
	if r.Reason == policy.CredentialMissing {
		return p.countOnly(r)
	}
	if !p.mayRecord() {
		r.Throttled = true
		return p.countOnly(r)
	}
	switch {
	case !ok:
		p.gate.config.Log.ErrorContext(ctx, "authentication failed", "error", err)
	case e.Err != nil:
		p.gate.config.Log.WarnContext(ctx, "credential not accepted", "reason", string(e.Problem), "error", e.Err)
	}
	return p.record(ctx, r, nil)
}

// decide asks policy.
func (p *evaluation) decide(ctx context.Context) *Refusal {
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
		return p.denyUndecided(ctx, err)
	}
	if decision.Verdict != policy.Allow {
		switch reason := cmp.Or(decision.Reason, policy.NoRuleMatched); reason {
		case policy.PolicyDenied, policy.NoRuleMatched:
			return p.deny(ctx, refuse(reason, decision.Notice))
		}
		return p.denyUndecided(ctx, nil)
	}
	if end := decision.Expires; !end.IsZero() && !p.started.Before(end) {
		p.gate.config.Log.ErrorContext(ctx, "policy allowed what had expired", "expires", end)
		return p.denyUndecided(ctx, nil)
	}
	p.decision.Reason = cmp.Or(decision.Reason, policy.PolicyAllowed)
	// Report mode never softens this, and neither does a decider's mistake.
	if p.target.IsAddress() && !decision.Address {
		return p.deny(ctx, refuse(policy.AddressProhibited,
			"the target is an IP address, and no rule that allows it says address: true"))
	}
	// A log known to be unavailable refuses before the name is looked up: a DNS query
	// is a message to whoever runs the zone.
	if err := p.gate.config.Recorder.AvailableTo(p.source()); err != nil {
		p.gate.config.Log.ErrorContext(ctx, "audit log unavailable", "error", err)
		return p.deny(ctx, refuse(policy.AuditUnavailable, recordDetail(err)))
	}
	return nil
}

// denyUndecided denies because policy came to no decision. Of what the decider
// returned, only what it evaluated is used, and of its error what a client may read.
func (p *evaluation) denyUndecided(ctx context.Context, err error) *Refusal {
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
	return p.deny(ctx, refuse(policy.PolicyError, detail))
}

// resolve resolves the target and pins the addresses that the guard permits.
func (p *evaluation) resolve(ctx context.Context) *Refusal {
	p.upstream = p.gate.upstreamFor(p.target.Host)
	if refusal := p.rejectUpstreamTarget(ctx, nil); refusal != nil {
		return refusal
	}
	addrs := []netip.Addr{p.target.Addr}
	if !p.target.IsAddress() {
		if p.upstream != nil && p.upstream.ResolveUpstream {
			return nil
		}
		resolved := p.stage("resolve")
		found, err := p.gate.config.Resolver.Resolve(ctx, subject(p.principal), p.target.Host)
		resolved()
		if err != nil || len(found) == 0 {
			return p.denyUnresolved(ctx, err)
		}
		addrs = found
	}
	if refusal := p.rejectUpstreamTarget(ctx, addrs); refusal != nil {
		return refusal
	}
	for _, addr := range addrs {
		to := netip.AddrPortFrom(addr.Unmap(), p.target.Port)
		class := p.gate.config.Guard.Classify(to)
		if class.Permits() {
			p.pinned = append(p.pinned, to)
		} else {
			p.prohibited = append(p.prohibited, string(class)+" "+addr.String())
		}
	}
	if len(p.pinned) == 0 {
		return p.deny(ctx, refuse(policy.AddressProhibited,
			"the target has no address outside the private, local and reserved networks"))
	}
	return nil
}

func (p *evaluation) denyUnresolved(ctx context.Context, err error) *Refusal {
	p.gate.config.Log.WarnContext(ctx, "name not resolved", "host", p.target.Host, "error", err)
	if over, ok := errors.AsType[*fair.OverError](err); ok {
		return p.deny(ctx, overShare(over, "lookups of names"))
	}
	r := refuse(policy.NameUnresolved, "the target's name has no address")
	if e, ok := errors.AsType[interface {
		error
		ClientText() string
	}](err); ok {
		r.Detail = e.ClientText()
	}
	if isTimeout(err) {
		r.Status = 504
		r.Detail = "the target's name could not be looked up in time"
	}
	return p.deny(ctx, r)
}

// allow writes the allow down. Until it is durable, nothing is allowed.
func (p *evaluation) allow(ctx context.Context) *Refusal {
	e := p.event(policy.Allow, p.decision.Reason)
	if p.attempt.Action == policy.Connect {
		e.Status = 200
	}
	if err := p.write(ctx, e); err != nil {
		p.gate.config.Log.ErrorContext(ctx, "decision not recorded", "decision_id", p.id, "error", err)
		r := refuse(policy.AuditUnavailable, recordDetail(err))
		r.DecisionID = p.id
		p.observe(policy.Deny, r.Reason, false)
		p.line(policy.Deny, r)
		// The recorder sees to it that an allow that it may have written does not
		// stand alone: nothing more is to be recorded here.
		return r
	}
	p.observe(policy.Allow, p.decision.Reason, p.decision.WouldDeny)
	p.line(policy.Allow, nil)
	return nil
}

// recordDetail is what a client is told of an event that cannot be recorded.
func recordDetail(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ClientText() string
	}](err); ok {
		return e.ClientText()
	}
	return "the audit log cannot be written at the moment"
}

// deny records a refusal, if there is room for it, and then returns it. Every
// refusal that is recorded comes through here or through
// [evaluation.refuseUnidentified], so that no client can fill the log.
func (p *evaluation) deny(ctx context.Context, r *Refusal) *Refusal {
	first, isRepeat := p.repeated(r)
	switch {
	case isRepeat:
		r.Throttled = r.Throttled || !p.acquired // what holds a place is under the rate of its step
		return r
	case p.overRefusals || !p.mayRecord():
		r.Throttled = true
		return p.countOnly(r)
	}
	return p.record(ctx, r, first)
}

// record records a refusal that may be. first is where repeats of it are counted;
// nil: nowhere. One that could not be recorded is still
// the answer: there is nothing that it lets out.
func (p *evaluation) record(ctx context.Context, r *Refusal, first *repeat) *Refusal {
	e := p.event(policy.Deny, r.Reason)
	e.Status = r.Status
	r.DecisionID = p.id
	r.Rule = e.Rule
	if r.Reason == policy.PolicyDenied || r.Reason == policy.NoRuleMatched {
		r.Message = p.decision.Message
	}
	// What an author says of an allow does not explain a refusal that came after it.
	e.Message = cmp.Or(r.Message, r.Detail)
	var noted audit.Event
	if first != nil {
		noted = first.of(e) // the event is the recorder's from here on
	}
	if err := p.write(ctx, e); err != nil {
		p.gate.config.Log.ErrorContext(ctx, "refusal not recorded", "decision_id", p.id, "reason", string(r.Reason), "error", err)
	} else {
		r.Recorded = true
		p.gate.repeats.durable(first, noted)
	}
	p.observe(policy.Deny, r.Reason, false)
	p.line(policy.Deny, r)
	return r
}

// write makes an event durable. The client's going away does not cancel its
// record; only the wait is bounded.
func (p *evaluation) write(ctx context.Context, e *audit.Event) error {
	defer p.stage("record")()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.gate.config.RecordWait)
	defer cancel()
	return p.gate.config.Recorder.Record(ctx, e)
}

// countOnly counts a refusal, and records no event.
func (p *evaluation) countOnly(r *Refusal) *Refusal {
	p.observe(policy.Deny, r.Reason, false)
	p.gate.config.Observer.Unrecorded(r.Reason)
	return r
}

func (p *evaluation) observe(v policy.Verdict, reason policy.Reason, wouldDeny bool) {
	p.gate.config.Observer.Decided(p.attempt.Action, v, reason, wouldDeny)
}

func (p *evaluation) stage(name string) func() {
	began := time.Now()
	return func() { p.gate.config.Observer.Stage(name, time.Since(began)) }
}
