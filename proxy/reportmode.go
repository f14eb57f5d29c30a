package proxy

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

// isReported reports whether the tunnel's latest decision is one of report mode, which
// breaks nothing: a tunnel that the check of its ClientHello would close continues.
func (t *tunnel) isReported() bool { return t.admission.latest().Mode == policy.Report }

// continues reports whether a tunnel that the check would close continues. What lets it
// continue is durable by then: the decision about another host that the ClientHello names,
// and an event would_close. If that host is denied, or cannot be recorded, the tunnel is
// closed.
func (t *tunnel) continues(h hello, cause Cause) bool {
	if !t.isReported() || !t.isReadable(cause) {
		return false
	}
	if h.name != "" && !t.isTarget(h.name) && !t.decideServerName(h.name) {
		return false
	}
	if err := t.admission.recordWouldClose(cause, h.name, t.serverName); err != nil {
		t.stopAs(CauseAuditUnavailable, true)
		return false
	}
	return t.exempt(cause) == ""
}

// isReadable reports whether the first bytes are those of another protocol, or a ClientHello
// whose server name could be read. What begins as a ClientHello and cannot be read is closed
// in report mode too: a denied host could be in it.
func (t *tunnel) isReadable(cause Cause) bool {
	switch cause {
	case CauseHelloMismatch, CauseHelloMissing, CauseHelloEncrypted:
		return true
	case CauseHelloInvalid, CauseHelloTimeout:
		return len(t.early) == 0 || t.early[0] != typeHandshake
	}
	return false // too large, or the connection failed
}

// decideServerName decides on the host that the ClientHello names instead of the target, as
// a further decision of the same step, and reports whether that is allowed.
func (t *tunnel) decideServerName(name string) bool {
	a := t.admission
	authority := net.JoinHostPort(strings.ToLower(strings.TrimSuffix(name, ".")), strconv.Itoa(int(a.Target.Port)))
	target, err := destination.ParseAuthority(authority)
	if err != nil || target.String() != authority || target.IsAddress() {
		return false // no policy can name it
	}
	further, refusal := a.gate.decideFurther(a, target)
	if refusal != nil {
		return false
	}
	t.attach(further)
	return true
}

// attach adds the decision about the ClientHello's own host to the tunnel: a revision that
// does not allow the host closes the tunnel, and so does the end of the allow.
func (t *tunnel) attach(further *Admission) {
	t.tracker.mu.Lock()
	t.serverName = further
	t.tracker.begun(further)
	t.tracker.mu.Unlock()
	t.shorten(&further.Decision)
}

// exempt notes that the tunnel continues although a strict check would close it for the
// cause, and returns the cause if the latest decision does not accept that: a revision that
// became active meanwhile was applied before the note.
func (t *tunnel) exempt(cause Cause) Cause {
	t.tracker.mu.Lock()
	defer t.tracker.mu.Unlock()
	t.admission.exempted = cause
	if d := t.admission.latest(); d.Mode != policy.Report && !accepts(d, cause) {
		return cause
	}
	return ""
}

// latest returns the decision by which the admission is allowed now.
func (a *Admission) latest() *policy.Decision {
	if again := a.reevaluated.Load(); again != nil {
		return again
	}
	return &a.Decision
}

// decideFurther decides on a further target of an admitted tunnel, for the same principal,
// and records the decision with the tunnel's decision id in its attribute tunnel. Exactly
// one of the results is not nil. No address is resolved: the tunnel is connected already.
// The caller ends the admission with [Admission.Close].
func (g *Gate) decideFurther(of *Admission, target destination.Target) (*Admission, *Refusal) {
	now := g.config.Now()
	p := &evaluation{gate: g, began: now, started: now.UTC().Truncate(time.Microsecond), tunnel: of.ID,
		attempt:   Attempt{Action: policy.Connect, Target: target.String(), Client: of.from, Peer: of.peer, Listener: of.listener},
		principal: of.Principal, target: target, upstream: of.upstream,
		acquired: true, // the tunnel has the slot
	}
	if to := of.Dialed(); to.IsValid() {
		p.pinned = append(p.pinned, to)
	}
	ctx := context.Background() // the client's end does not cancel the record
	if g.stopped.Load() {
		return nil, p.deny(ctx, refuse(policy.EmergencyStop, "an operator activated the emergency stop"))
	}
	for _, step := range [...]func(context.Context) *Refusal{p.decide, p.checkQuota, p.allow} {
		if refusal := step(ctx); refusal != nil {
			return nil, refusal
		}
	}
	return p.admission(), nil
}

// recordWouldClose records that report mode lets the tunnel continue, and returns once that
// is durable. name is the server name as the client sent it, and further the decision about
// that host, if it is another one.
func (a *Admission) recordWouldClose(cause Cause, name string, further *Admission) error {
	e := &audit.Event{
		Time: a.gate.config.Now().UTC().Truncate(time.Microsecond), Kind: audit.KindWouldClose,
		DecisionID: a.ID, Action: string(a.action), Listener: a.listener, ClientAddress: a.client,
		Mode: policy.Report.String(), Rule: a.Decision.Rule, Revision: a.latest().Revision.Digest, CloseReason: string(cause),
	}
	if a.Principal != nil {
		e.Source = sourceOf(a.Principal)
	}
	copyPrincipal(e, a.Principal)
	copyTarget(e, a.Target, a.action, a.Decision.Protocol)
	if further != nil {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "server_name", Value: name}, audit.Attribute{Name: "further_decision", Value: further.ID})
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.gate.config.RecordWait)
	defer cancel()
	if err := a.gate.config.Recorder.Record(ctx, e); err != nil {
		a.gate.failures.failed(ctx, a.gate.config.Log, "event would_close not recorded", err, slog.String("decision_id", a.ID))
		return err
	}
	a.gate.config.Observer.WouldClose(cause)
	return nil
}
