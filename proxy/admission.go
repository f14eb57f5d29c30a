package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Admission is the right to reach one target once, from a decision that is
// already durable. It ends with one call of [Admission.Close].
type Admission struct {
	ID        string
	Principal *identity.Principal
	Decision  policy.Decision
	Target    destination.Target
	Path      string           // path and query of an absolute-form target, as policy saw it
	Addresses []netip.AddrPort // what may be dialed, and nothing else; none where another proxy resolves the name
	Admitted  time.Time

	gate           *Gate
	began          time.Time // as Admitted, with the monotonic clock
	action         policy.Action
	client         netip.Addr
	from           netip.AddrPort // as the attempt has it, for a further decision
	peer           netip.Addr
	listener       string
	slot           fair.Slot
	quota          *byteQuota
	sent, received meter
	http           *policy.HTTPRequest // nil for a tunnel
	upstream       *UpstreamProxy      // nil: directly
	dialed         atomic.Pointer[netip.AddrPort]
	closed         atomic.Bool
	stopped        Cause // given while it was a request: a tunnel that it becomes ends with it. The tracker's lock guards it
	// The latest decision, where policy has changed since.
	reevaluated atomic.Pointer[policy.Decision]
	// exempted is what a strict check of the ClientHello would have closed the tunnel for;
	// "": nothing. The tracker's lock guards it.
	exempted Cause
	// The activation that allowed it last, and the one whose organization's half was
	// evaluated for it. The tracker's lock guards both.
	active, screened activation
}

// Reached notes that the admission used a connection that an earlier one had opened, so
// that its close event has the address. Only a pinned address is accepted; Reached
// reports whether the address is pinned.
func (a *Admission) Reached(to netip.AddrPort) bool {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !slices.Contains(a.Addresses, to) {
		return false
	}
	a.dialed.Store(&to)
	return true
}

// ReleaseHeader gives back what the request's head counted under the limits, once
// it is in memory no more. It must not be called at the same time as Close.
func (a *Admission) ReleaseHeader() { a.slot.ReleaseBytes() }

// Settle notes that the dial for a CONNECT has ended, so that the next waiting request gets
// its turn in the gate. It must not be called at the same time as Close.
func (a *Admission) Settle() { a.slot.Settle() }

// Refuse puts the admission's decision id on a refusal that came after it.
func (a *Admission) Refuse(r *Refusal) *Refusal {
	r.DecisionID, r.Rule, r.Recorded = a.ID, a.Decision.Rule, true
	return r
}

// Close ends the admission: it records the closing event and returns when that
// is durable, or when the log could not take it within its bound. Only the
// first call does anything. It does not depend on the client's context.
func (a *Admission) Close(o Outcome) {
	if !a.closed.Swap(true) {
		a.slot.Release()
		a.close(o)
		a.gate.config.Observer.Closed(a.action, o.Cause, o.Sent, o.Received)
	}
}

// CloseInBackground is Close for a caller that must not wait for the log, because it
// serves the client's next request. [Gate.Wait] waits for it.
func (a *Admission) CloseInBackground(o Outcome) {
	if !a.closed.Swap(true) {
		a.slot.Release()
		a.gate.ends.Go(func() {
			a.close(o)
			a.gate.config.Observer.Closed(a.action, o.Cause, o.Sent, o.Received)
		})
	}
}

// close records the end. Who asked for what is in the event of the decision.
func (a *Admission) close(o Outcome) {
	now := a.gate.config.Now()
	e := &audit.Event{
		Time:           now.UTC().Truncate(time.Microsecond),
		Kind:           audit.KindTunnelClosed,
		DecisionID:     a.ID,
		Status:         o.Status,
		BytesSent:      o.Sent,
		BytesReceived:  o.Received,
		Duration:       now.Sub(a.began),
		CloseReason:    string(o.Cause),
		UpstreamStatus: o.UpstreamStatus,
	}
	if a.action == policy.Forward {
		e.Kind = audit.KindRequestClosed
	}
	if o.Repeated {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "repeated", Value: "true"})
	}
	if a.Principal != nil {
		e.Source = sourceOf(a.Principal)
	}
	if to := a.dialed.Load(); to != nil {
		e.DialedAddress = to.Addr().Unmap()
	}
	if again := a.reevaluated.Load(); again != nil && o.Cause == CausePolicyChanged {
		e.Revision, e.Commit, e.RepositoryRevision = again.Revision.Digest, again.Revision.Commit, again.RepositoryRevision.Digest
		e.Reason, e.Rule, e.Rules, e.Message = string(again.Reason), again.Rule, again.Rules, again.Message
	}
	kind, took := string(e.Kind), e.Duration
	ctx, cancel := context.WithTimeout(context.Background(), a.gate.config.RecordWait)
	defer cancel()
	if err := a.gate.config.Recorder.Record(ctx, e); err != nil {
		a.gate.failures.failed(ctx, a.gate.config.Log, "close event not recorded", err, slog.String("decision_id", a.ID))
	}
	a.line(kind, o, took)
}

func (a *Admission) line(kind string, o Outcome, took time.Duration) {
	if !a.gate.config.Log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs, slog.String("decision_id", a.ID), slog.String("close_reason", string(o.Cause)),
		slog.Int64("bytes_sent", o.Sent), slog.Int64("bytes_received", o.Received), slog.Duration("duration", took))
	if o.UpstreamStatus != 0 {
		attrs = append(attrs, slog.Int("upstream_status", o.UpstreamStatus))
	}
	if again := a.reevaluated.Load(); again != nil && o.Cause == CausePolicyChanged {
		attrs = append(attrs, slog.String("reason", string(again.Reason)), slog.String("rule", again.Rule), slog.String("revision", again.Revision.Digest))
	}
	attrs = appendPrincipal(attrs, a.Principal)
	attrs = append(attrs, slog.String("host", a.Target.Host), slog.Int("port", int(a.Target.Port)))
	a.gate.config.Log.LogAttrs(context.Background(), slog.LevelInfo, kind, attrs...)
}

// lastsUntil returns when a decision ends what it allows, on the monotonic clock; the
// zero time means that it has no end.
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

// UpstreamProxy returns the URL of the upstream proxy, or "" if the target is dialed
// directly.
func (a *Admission) UpstreamProxy() string {
	if a.upstream == nil {
		return ""
	}
	return a.upstream.String()
}

// Dialed is the pinned address that the latest [Admission.Dial] has reached, or
// had another proxy reach; invalid where there is none.
func (a *Admission) Dialed() netip.AddrPort {
	if to := a.dialed.Load(); to != nil {
		return *to
	}
	return netip.AddrPort{}
}
