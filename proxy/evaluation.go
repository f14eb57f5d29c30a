package proxy

import (
	"net/netip"
	"time"

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
	credentialRefused bool       // the principal is for the record only
	acquired          bool       // a slot under the limits of its step
	overRefusals      bool       // refused too often to be recorded
	slot              fair.Slot  // that slot
	quota             *byteQuota // the step's bytes, if the decision limits them
	decision          policy.Decision
	upstream          *UpstreamProxy // nil: directly
	pinned            []netip.AddrPort
	tunnel            string   // of a further decision: the decision id of its tunnel
	prohibited        []string // what was resolved and must not be dialed, with its class
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
