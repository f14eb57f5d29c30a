package proxy

import (
	"cmp"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// admitted is an open tunnel or a request under way; the other one is nil.
type admitted struct {
	admission *Admission
	tunnel    *tunnel
	request   *request
}

// wake reports that there is something to reevaluate. It does not block.
func (t *Tracker) wake() {
	select {
	case t.stale <- struct{}{}:
	default: // it is reported already
	}
}

// activation is one activation of a revision. The same revision is activated again
// when the rules of a rejected repository change.
type activation struct {
	digest string
	number uint64
}

func activationOf(d *policy.Decision) activation { return activation{d.Revision.Digest, d.Activation} }

// begun compares the activation that admitted what begins with the present one. The
// lock is held.
func (t *Tracker) begun(a *Admission) {
	if t.active != (activation{}) && a.active != t.active {
		t.wake()
	}
}

// outdated lists the tunnels and requests that the active revision was not applied to.
func (t *Tracker) outdated() []admitted {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []admitted
	for tun := range t.open {
		if a := tun.admission; a.active != t.active {
			list = append(list, admitted{admission: a, tunnel: tun})
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
		d.Message = "no rule that allows it says address: true any more"
	case a.action == policy.Connect && a.Decision.Protocol == policy.ProtocolAny && d.Protocol != policy.ProtocolAny:
		// Its beginning was not checked for TLS.
		d.Verdict, d.Reason = policy.Deny, policy.PolicyDenied
		d.Message = `no rule that allows it says protocol: "any" any more`
	}
	return d
}

// lastsUntil is when a decision ends what it lets out, on the monotonic clock;
// the zero time where it says nothing.
func (a *Admission) lastsUntil(d *policy.Decision) (end time.Time) {
	if life := d.Limits.Lifetime; life > 0 {
		end = a.began.Add(life)
	}
	if e := d.Expires; !e.IsZero() {
		if at := a.began.Add(e.Sub(a.Admitted)); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	return end
}

// shorten brings the tunnel's end forward to a new decision's. It never puts it off.
func (t *tunnel) shorten(d *policy.Decision) {
	end := t.admission.lastsUntil(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	if end.IsZero() || !end.Before(t.deadline) {
		return
	}
	t.deadline, t.deadlineCause = end, CauseLifetime
	if t.watch != nil && !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(t.idleFor()))
	}
}
