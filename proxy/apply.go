package proxy

import (
	"cmp"

	"github.com/sallyport/sallyport/policy"
)

// admitted is an open tunnel or a request under way; the other one is nil.
type admitted struct {
	admission *Admission
	tunnel    *tunnel
	request   *request
}

// outdated lists the tunnels and requests that the active revision was not applied to.
func (t *Tracker) outdated() []admitted {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []admitted
	for tun := range t.open {
		for _, a := range [...]*Admission{tun.admission, tun.serverName} {
			if a != nil && a.active != t.active {
				list = append(list, admitted{admission: a, tunnel: tun})
			}
		}
	}
	for r := range t.requests {
		if a := r.admission; a.active != t.active {
			list = append(list, admitted{admission: a, request: r})
		}
	}
	return list
}

// screen notes that the organization's half of a revision leaves the decision to the
// repository's rules.
func (t *Tracker) screen(open []admitted, by activation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range open {
		o.admission.screened = by
	}
}

// screened reports whether the organization's half of the active revision was
// evaluated for all of them.
func (t *Tracker) screened(open []admitted) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range open {
		if o.admission.screened != t.active {
			return false
		}
	}
	return true
}

// apply applies a new decision to all that it is about, and returns how many it has
// closed.
func (t *Tracker) apply(open []admitted, d policy.Decision) (closed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range open {
		now := o.admission.constrain(d)
		cut := now.Verdict != policy.Allow
		if o.request != nil {
			if _, under := t.requests[o.request]; !under {
				// It is over, or becomes a tunnel, to which the decision is applied then.
				continue
			}
		}
		o.admission.reevaluated.Store(&now)
		o.admission.active = activationOf(&d)
		switch {
		case !cut && o.tunnel != nil:
			o.tunnel.shorten(&now)
		case !cut:
		case o.tunnel != nil:
			if o.tunnel.stop(CausePolicyChanged) {
				closed++
			}
		default:
			delete(t.requests, o.request)
			o.admission.stopped = CausePolicyChanged
			o.request.stop(CausePolicyChanged)
			closed++
		}
	}
	return closed
}

// constrain returns a new decision for an open tunnel or request. The decision is a
// deny if the new policy would not admit it in this form.
func (a *Admission) constrain(d policy.Decision) policy.Decision {
	switch {
	case d.Verdict != policy.Allow:
		d.Reason = cmp.Or(d.Reason, policy.NoRuleMatched)
	case a.Target.IsAddress() && !d.Address:
		d.Verdict, d.Reason = policy.Deny, policy.AddressProhibited
		d.Message = `no rule that allows it sets "allow_ip_literal": true now`
	case a.action == policy.Connect && a.Decision.Protocol == policy.ProtocolAny && d.Protocol != policy.ProtocolAny:
		// Its beginning was not checked for TLS.
		d.Verdict, d.Reason = policy.Deny, policy.PolicyDenied
		d.Message = `no rule that allows it sets "protocol": "any" now`
	case a.exempted != "" && d.Mode != policy.Report && !accepts(&d, a.exempted):
		d.Verdict, d.Reason = policy.Deny, policy.PolicyDenied
		d.Message = "the policy does not accept the tunnel's ClientHello now: " + string(a.exempted)
	}
	return d
}
