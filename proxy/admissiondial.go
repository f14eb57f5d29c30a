package proxy

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Dial opens a connection to one of the pinned addresses, directly or through the
// configured upstream proxy. On failure it returns the refusal for the client; the caller
// still closes the admission, with [Refusal.Cause].
func (a *Admission) Dial(ctx context.Context) (Stream, *Refusal) {
	began := time.Now()
	conn, err := a.dial(ctx)
	a.gate.config.Observer.Stage("dial", time.Since(began))
	if err == nil {
		if a.action != policy.Connect {
			keepAlive(tcpOf(conn)) // it may be kept for later requests
		}
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
	a.dialed.Store(&to)
	return conn, nil
}

// dialThroughUpstream has the upstream proxy open a tunnel to one of the pinned addresses, or
// to the name where that is its to look up.
func (a *Admission) dialThroughUpstream(ctx context.Context) (Stream, error) {
	d, v := &a.gate.config.Dialer, a.upstream
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, 10*time.Second))
	defer cancel()
	at, err := v.lookup(ctx, subject(a.Principal), a.gate.config.Resolver)
	if err != nil {
		return nil, err
	}
	if v.ResolveUpstream {
		return d.connectUpstream(ctx, v, at, a.Target.String())
	}
	order := interleave(a.Addresses)
	order = order[:min(len(order), maxUpstreamAttempts)]
	for i, to := range order {
		// An address that does not answer leaves time for the others.
		deadline, _ := ctx.Deadline()
		one, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(order)-i))
		var conn Stream
		conn, err = d.connectUpstream(one, v, at, to.String())
		cancel()
		if err == nil {
			a.dialed.Store(&to)
			return conn, nil
		}
		if status, answered := errors.AsType[upstreamStatus](err); answered && status < 500 {
			break // the proxy would refuse another address too
		}
	}
	return nil, err
}

// notReached returns the refusal for a dial that failed: whether the target or the
// upstream proxy failed, and never the text of a remote error.
func (a *Admission) notReached(err error) *Refusal {
	if over, ok := errors.AsType[*fair.OverError](err); ok {
		return overShare(over, "connections to targets being opened")
	}
	if a.upstream == nil {
		if isTimeout(err) {
			return refuse(policy.TargetTimeout, "the target did not answer in time")
		}
		return refuse(policy.TargetUnreachable, "the target could not be reached")
	}
	status, answered := errors.AsType[upstreamStatus](err)
	switch {
	case answered && status == 504:
		return refuse(policy.TargetTimeout, "the target did not answer the upstream proxy in time")
	case answered && status.targetFailed():
		return refuse(policy.TargetUnreachable, "the upstream proxy could not reach the target")
	case answered:
		return refuse(policy.UpstreamUnavailable, "the upstream proxy refused the target")
	case isTimeout(err) && !errors.Is(err, syscall.ECONNREFUSED):
		return refuse(policy.UpstreamTimeout, "the upstream proxy did not answer in time")
	}
	return refuse(policy.UpstreamUnavailable, "the upstream proxy could not be reached, or did not answer as a proxy does")
}
