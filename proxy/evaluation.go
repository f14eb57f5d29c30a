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
