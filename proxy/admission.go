package proxy

import (
	"context"
	"log/slog"
	"net"
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
	Addresses []netip.AddrPort // what may be dialled, and nothing else; none where another proxy resolves the name
	Admitted  time.Time

	gate           *Gate
	began          time.Time // as Admitted, with the monotonic clock
	action         policy.Action
	client         netip.Addr
	slot           fair.Slot
	quota          *byteQuota
	sent, received meter
	http           *policy.HTTPRequest // nil for a tunnel
	upstream       *UpstreamProxy      // nil: directly
	dialled        atomic.Pointer[netip.AddrPort]
	closed         atomic.Bool
	stopped        Cause // given while it was a request: a tunnel that it becomes ends with it. The tracker's lock guards it
	// The latest decision, where policy has changed since.
	reevaluated atomic.Pointer[policy.Decision]
	// The activation that allowed it last, and the one whose organization's half was
	// evaluated for it. The tracker's lock guards both.
	active, screened activation
}

// Cause is why an admission ended: a closed vocabulary.
type Cause string

// The causes.
const (
	CauseFinished               Cause = "finished"                  // both sides are done
	CauseClientClosed           Cause = "client_closed"             // the client broke off
	CauseTargetClosed           Cause = "target_closed"             // the target broke off
	CauseClientError            Cause = "client_error"              // reading from or writing to the client failed
	CauseTargetError            Cause = "target_error"              // also the target
	CauseIdle                   Cause = "idle_timeout"              // no byte for too long
	CauseHalfClosed             Cause = "half_closed_timeout"       // one side was done and the other did not end
	CauseLifetime               Cause = "lifetime"                  // the absolute deadline
	CauseBytesSentLimit         Cause = "bytes_sent_limit"          // more bytes to the target than the rule allows
	CauseBytesReceivedLimit     Cause = "bytes_received_limit"      // more bytes from it
	CauseStepBytesSentLimit     Cause = "step_bytes_sent_limit"     // more bytes of the step in all
	CauseStepBytesReceivedLimit Cause = "step_bytes_received_limit" // more bytes to the step in all
	CauseHelloMismatch          Cause = "hello_mismatch"            // the TLS server name is not the target
	CauseHelloMissing           Cause = "hello_missing"             // no TLS server name
	CauseHelloEncrypted         Cause = "hello_encrypted"           // the TLS server name is hidden (ECH)
	CauseHelloInvalid           Cause = "hello_invalid"             // not TLS, or a malformed ClientHello
	CauseHelloTooLarge          Cause = "hello_too_large"           // a ClientHello over its limit
	CauseHelloTimeout           Cause = "hello_timeout"             // no ClientHello in time
	CauseHTTPRequest            Cause = "http_request"              // a plain HTTP request instead of TLS: it is decided by itself
	CauseTargetUnreachable      Cause = "target_unreachable"        // the dial failed
	CauseTargetTimeout          Cause = "target_timeout"            // the dial or the answer took too long
	CauseUpstreamUnavailable    Cause = "upstream_unavailable"      // the proxy in between could not be reached, or refused
	CauseUpstreamTimeout        Cause = "upstream_timeout"          // it took too long
	CauseResponseInvalid        Cause = "response_invalid"          // the target's answer cannot be passed on
	CauseOverloaded             Cause = "overloaded"                // too many targets were being dialled
	CauseShutdown               Cause = "shutdown"                  // this instance ended
	CauseOperator               Cause = "operator"                  // an operator closed it
	CauseEmergencyStop          Cause = "emergency_stop"            // an operator stopped everything
	CauseRevoked                Cause = "credential_revoked"        // an operator ended the step or its repository
	CauseCredentialEnded        Cause = "credential_ended"          // the credential's time is over, and the configuration closes tunnels then
	CausePolicyChanged          Cause = "policy_changed"            // the policy that decides now does not allow it
	CauseInternal               Cause = "internal_error"            // a fault of ours
)

// Outcome is how an admission ended.
type Outcome struct {
	Sent           int64 // bytes that were written to the target's connection
	Received       int64 // bytes that were read from it and passed on
	Cause          Cause
	Status         int // what the client was answered, where that is known only now
	UpstreamStatus int
	Repeated       bool // the request was sent a second time, after the target had closed a kept connection
}

// Dial opens a connection to one of the pinned addresses, directly or through the
// proxy that the configuration puts in the way. On failure it returns
// what to tell the client; the caller still closes the admission, with
// [Refusal.Cause].
func (a *Admission) Dial(ctx context.Context) (Stream, *Refusal) {
	began := time.Now()
	conn, err := a.dial(ctx)
	a.gate.config.Observer.Stage("dial", time.Since(began))
	if err == nil {
		return conn, nil
	}
	a.gate.config.Log.WarnContext(ctx, "target not reached", "decision_id", a.ID, "upstream_proxy", a.UpstreamProxy(), "error", err)
	return nil, a.Refuse(a.notReached(err))
}

func (a *Admission) dial(ctx context.Context) (Stream, error) {
	slot, err := a.gate.dials.Acquire(ctx, subject(a.Principal), 0)
	if err != nil {
		return nil, err
	}
	defer slot.Release()
	if a.upstream != nil {
		return a.dialThroughUpstream(ctx)
	}
	conn, err := a.gate.config.Dialer.dial(ctx, a.Addresses)
	if err != nil {
		return nil, err // and no connection, which a nil *net.TCPConn would be
	}
	to := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	a.dialled.Store(&to)
	return conn, nil
}

// Reached notes that the admission used a connection that an earlier one had
// opened, so that its end says where it went. Only a pinned address is taken;
// it reports whether this is one.
func (a *Admission) Reached(to netip.AddrPort) bool {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !slices.Contains(a.Addresses, to) {
		return false
	}
	a.dialled.Store(&to)
	return true
}

// ReleaseHeader gives back what the request's head counted under the limits, once
// it is in memory no more. It must not be called at the same time as Close.
func (a *Admission) ReleaseHeader() { a.slot.ReleaseBytes() }

// Refuse puts the admission's decision id on a refusal that came after it.
func (a *Admission) Refuse(r *Refusal) *Refusal {
	r.DecisionID, r.Rule, r.Recorded = a.ID, a.Decision.Rule, true
	return r
}

// Cause is the cause that an admission ends with when this refusal is its end.
func (r *Refusal) Cause() Cause {
	switch r.Reason {
	case policy.TargetUnreachable:
		return CauseTargetUnreachable
	case policy.TargetTimeout:
		return CauseTargetTimeout
	case policy.ResponseInvalid:
		return CauseResponseInvalid
	case policy.UpstreamUnavailable:
		return CauseUpstreamUnavailable
	case policy.UpstreamTimeout:
		return CauseUpstreamTimeout
	case policy.Overloaded, policy.StepLimit, policy.RepositoryLimit:
		return CauseOverloaded
	case policy.ShuttingDown:
		return CauseShutdown
	case policy.EmergencyStop:
		return CauseEmergencyStop
	case policy.CredentialRevoked:
		return CauseRevoked
	}
	return CauseInternal
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

// CloseInBackground is Close for whoever has something better to do than to wait
// for the log: a client's next request. [Gate.Wait] waits for it.
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
	if to := a.dialled.Load(); to != nil {
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
		a.gate.config.Log.Error("close event not recorded", "decision_id", a.ID, "error", err)
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
