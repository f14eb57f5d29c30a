package proxy

import (
	"cmp"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// judgeable is a tunnel or a request, of which one is nil.
type judgeable struct {
	admission *Admission
	tunnel    *tunnel
	request   *request
}

// wake tells whoever re-decides that there is something to do. The lock is held.
func (t *Tracker) wake() {
	select {
	case t.stale <- struct{}{}:
	default: // it has been told
	}
}

// begun looks whether what begins was judged by the policy that decides. The lock
// is held.
func (t *Tracker) begun(a *Admission) {
	if t.revision != "" && a.judged != t.revision {
		t.wake()
	}
}

// unjudged lists what is open and was not judged by the policy that decides.
func (t *Tracker) unjudged() []judgeable {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []judgeable
	for tun := range t.open {
		if a := tun.admission; a.judged != t.revision {
			list = append(list, judgeable{admission: a, tunnel: tun})
		}
	}
	for r := range t.requests {
		if a := r.admission; a.judged != t.revision {
			list = append(list, judgeable{admission: a, request: r})
		}
	}
	return list
}

// judge does what a new decision says with what it is about, and returns how many
// of them it has closed.
func (t *Tracker) judge(open []judgeable, d policy.Decision) (closed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range open {
		again := o.admission.outlived(d)
		cut := again.Verdict != policy.Allow
		if o.request != nil {
			if _, under := t.requests[o.request]; !under {
				// It is over, or becomes a tunnel: as that it is judged.
				continue
			}
		}
		o.admission.again.Store(&again)
		o.admission.judged = d.Revision.Digest
		switch {
		case !cut && o.tunnel != nil:
			o.tunnel.shorten(&again)
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

// outlived is a new decision as it is for what is open already: what would not be
// let out in this way today is not allowed.
func (a *Admission) outlived(d policy.Decision) policy.Decision {
	switch {
	case d.Verdict != policy.Allow:
		d.Reason = cmp.Or(d.Reason, policy.NoRuleMatched)
	case a.Target.IsAddress() && !d.Address:
		d.Verdict, d.Reason = policy.Deny, policy.AddressProhibited
		d.Message = "no rule that allows it says address: true any more"
	case a.action == policy.Connect && a.Decision.Protocol == policy.ProtocolAny && d.Protocol != policy.ProtocolAny:
		// Nobody has looked at how it began.
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
	t.deadline, t.overdue = end, CauseLifetime
	if t.watch != nil && !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(t.idleFor()))
	}
}
