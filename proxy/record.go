package proxy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// allow records the allow. Until the record is durable, nothing is allowed.
func (p *evaluation) allow(ctx context.Context) *Refusal {
	e := p.event(policy.Allow, p.decision.Reason)
	if p.attempt.Action == policy.Connect && p.tunnel == "" {
		e.Status = 200
	}
	if err := p.write(ctx, e); err != nil {
		p.gate.failures.failed(ctx, p.gate.config.Log, "decision not recorded", err, slog.String("decision_id", p.id))
		r := refuse(policy.AuditUnavailable, recordDetail(err))
		r.DecisionID = p.id
		p.observe(policy.Deny, r.Reason, false)
		p.line(policy.Deny, r)
		// The recorder resolves an allow that it may have written: nothing more is
		// recorded here.
		return r
	}
	p.observe(policy.Allow, p.decision.Reason, p.decision.WouldDeny)
	p.line(policy.Allow, nil)
	return nil
}

// deny records a refusal within the limits of refusals, and returns it. Every recorded
// refusal passes here or [evaluation.refuseUnidentified], so that no client can fill the
// log.
func (p *evaluation) deny(ctx context.Context, r *Refusal) *Refusal {
	first, isRepeat := p.repeated(r)
	switch {
	case isRepeat:
		r.Throttled = r.Throttled || !p.acquired // an attempt with a slot is under the rate of its step
		return r
	case p.overRefusals || !p.mayRecord():
		r.Throttled = true
		return p.countOnly(r)
	}
	return p.record(ctx, r, first)
}

// refuseUnread answers an attempt whose target cannot be read.
func (p *evaluation) refuseUnread(ctx context.Context, reason policy.Reason, detail string) *Refusal {
	r := refuse(reason, detail)
	if p.principal == nil {
		return p.countOnly(r)
	}
	return p.deny(ctx, r)
}

// mayRecord reports whether a refusal is recorded. Behind [evaluation.acquire] the
// limits of requests bound that; before it nothing else does.
func (p *evaluation) mayRecord() bool {
	return p.acquired || p.gate.refusals.take(p.principal, p.credentialRefused, p.attempt.Client.Addr(), p.started)
}

// record records a refusal. first counts its repeats; nil: none are counted. A refusal
// that could not be recorded is returned all the same: it allows nothing.
func (p *evaluation) record(ctx context.Context, r *Refusal, first *repeat) *Refusal {
	e := p.event(policy.Deny, r.Reason)
	if p.tunnel == "" {
		e.Status = r.Status // a further decision has no response of its own
	}
	r.DecisionID = p.id
	r.Rule = e.Rule
	if r.Reason == policy.PolicyDenied || r.Reason == policy.NoRuleMatched {
		r.Message = p.decision.Message
	}
	// The message of an allow rule does not explain a refusal that came after it.
	e.Message = cmp.Or(r.Message, r.Detail)
	var noted audit.Event
	if first != nil {
		noted = first.of(e) // the event is the recorder's from here on
	}
	if err := p.write(ctx, e); err != nil {
		p.gate.failures.failed(ctx, p.gate.config.Log, "refusal not recorded", err, slog.String("decision_id", p.id), slog.String("reason", string(r.Reason)))
	} else {
		r.Recorded = true
		p.gate.repeats.durable(first, noted)
	}
	p.observe(policy.Deny, r.Reason, false)
	p.line(policy.Deny, r)
	return r
}

// repeated answers a refusal that was made often before with the decision id of the
// first one, whose event is in the log. Otherwise the refusal is to be recorded.
func (p *evaluation) repeated(r *Refusal) (entry *repeat, isRepeat bool) {
	if p.principal == nil || p.credentialRefused || p.principal.Step.UUID == "" {
		return nil, false
	}
	of := &p.gate.repeats
	step := stepKey(subject(p.principal))
	key := repeatKey{p.attempt.Action, p.target.String(), r.Reason, p.decision.Rule, p.decision.Revision.Digest + p.decision.RepositoryRevision.Digest}
	if p.target.Host == "" {
		raw := sha256.Sum256([]byte(p.attempt.Target))
		key.target = string(raw[:])
	}
	entry, id, over := of.take(step, key, p.began)
	if over != "" && id == "" {
		*r = *overRefusals(over)
		if entry, id, _ = of.take(step, repeatKey{reason: over}, p.began); id == "" && entry == nil {
			p.overRefusals = true
			return nil, false
		}
	}
	if id == "" {
		return entry, false
	}
	r.DecisionID, r.Rule, r.Recorded = id, p.decision.Rule, true
	if r.Reason == policy.PolicyDenied || r.Reason == policy.NoRuleMatched {
		r.Message = p.decision.Message
	}
	p.observe(policy.Deny, r.Reason, false)
	return entry, true
}

// overRefusals is the refusal of a step that is refused too often for different
// targets or reasons, or whose repository is.
func overRefusals(over policy.Reason) *Refusal {
	whose, times := "this step was", 1
	if over == policy.RepositoryLimit {
		whose, times = "the steps of this repository were", repositoryRefusals
	}
	r := refuse(over, fmt.Sprintf("%s refused more than %d times for different targets or reasons, and more than %d times a second since",
		whose, times*refusalBurst, times*int(time.Second/refusalRefill)))
	r.Throttled = true
	return r
}

// write makes an event durable. A client that disconnects does not cancel its record;
// only the wait is bounded.
func (p *evaluation) write(ctx context.Context, e *audit.Event) error {
	defer p.stage("record")()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.gate.config.RecordWait)
	defer cancel()
	return p.gate.config.Recorder.Record(ctx, e)
}

// recordDetail is what a client reads of an event that cannot be recorded.
func recordDetail(err error) string {
	if e, ok := errors.AsType[interface {
		error
		ClientText() string
	}](err); ok {
		return e.ClientText()
	}
	return "the audit log cannot be written at the moment"
}
