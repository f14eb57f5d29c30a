package proxy

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func newTunnel(c TunnelConfig, a *Admission, client Stream, early []byte, upstream Stream) *tunnel {
	limits := a.Decision.Limits
	t := &tunnel{
		admission:     a,
		client:        client,
		early:         early,
		upstream:      upstream,
		config:        c,
		idle:          stricter(c.IdleTimeout, limits.Idle),
		up:            &a.sent,
		down:          &a.received,
		began:         time.Now(),
		deadlineCause: CauseLifetime,
	}
	lifetime := stricter(c.MaxLifetime, limits.Lifetime)
	if e := a.Decision.Expires; !e.IsZero() {
		lifetime = min(lifetime, e.Sub(a.Admitted))
	}
	if c.EndWithCredential && a.Principal != nil {
		if left := a.Principal.Expires.Add(c.CredentialGrace).Sub(a.Admitted); left < lifetime {
			lifetime, t.deadlineCause = left, CauseCredentialEnded
		}
	}
	// On the monotonic clock: a change of the system clock does not close tunnels.
	t.deadline = a.began.Add(lifetime)
	if again := a.reevaluated.Load(); again != nil {
		t.shorten(again)
	}
	return t
}

// run relays the tunnel from its first byte to its end.
func (t *tunnel) run() Outcome {
	defer t.close()
	t.startWatch()
	var down sync.WaitGroup
	if !t.begin(&down) {
		down.Wait()
		return t.outcome()
	}
	t.finish(t.relay(t.upstream, t.client, t.up), true)
	down.Wait()
	t.stopAs(CauseFinished, false)
	return t.outcome()
}

// begin checks the tunnel's first bytes, sends them to the target and starts the other
// direction. If it returns false, the tunnel ends.
func (t *tunnel) begin(down *sync.WaitGroup) bool {
	var checked chan struct{}
	// A tunnel that a request has become does not contain TLS.
	if t.admission.Decision.Protocol != policy.ProtocolAny && t.admission.action != policy.Forward {
		reported := t.isReported()
		if reported {
			checked = make(chan struct{})
			down.Go(func() { t.relayDown(checked) })
		}
		permitted := t.checkHello()
		if reported {
			close(checked)
			if !permitted {
				t.endRead()
			}
		}
		if !permitted {
			return false
		}
	}
	if t.begun != nil {
		t.begun()
		t.begun = nil
	}
	if len(t.early) > 0 && !t.sendEarly() {
		return false
	}
	t.early = nil
	if checked == nil {
		down.Go(func() { t.relayDown(nil) })
	}
	return true
}

// endRead ends a read from the target where the tunnel does not begin.
func (t *tunnel) endRead() { _ = t.upstream.SetReadDeadline(time.Unix(1, 0)) }

// finish ends one direction: EOF is forwarded and bounds the other direction; everything
// else ends the tunnel.
func (t *tunnel) finish(end ending, fromClient bool) {
	switch {
	case end.limit && fromClient:
		t.stopAs(t.overSent(), true)
	case end.limit && t.down.isStepNearer():
		t.stopAs(CauseStepBytesReceivedLimit, true)
	case end.limit:
		t.stopAs(CauseBytesReceivedLimit, true)
	case fromClient && end.wrote && errors.Is(end.err, syscall.EPIPE):
		// The target ended its side in order before it closed: what it sent is still to
		// be delivered.
		t.abort(causeOf(end, fromClient))
	case end.err != nil:
		t.stopAs(causeOf(end, fromClient), true)
	case fromClient:
		t.propagateEOF(t.upstream.CloseWrite)
	default:
		t.propagateEOF(t.client.CloseWrite)
	}
}

func (t *tunnel) overSent() Cause {
	if t.up.isStepNearer() {
		return CauseStepBytesSentLimit
	}
	return CauseBytesSentLimit
}

func (t *tunnel) propagateEOF(closeWrite func() error) {
	t.mu.Lock()
	forced := t.forced || t.leavesClient
	t.mu.Unlock()
	if forced {
		return // a broken tunnel must not look like an orderly end
	}
	if t.halfClosed.Swap(true) {
		return // the other direction has ended too: closing is enough
	}
	t.boundRest()
	// A peer that has closed by now is detected in the other direction.
	_ = closeWrite()
}

// abort ends the direction to the target and leaves the other one its time.
func (t *tunnel) abort(cause Cause) {
	t.mu.Lock()
	if t.cause == "" {
		t.cause, t.forced = cause, true
	}
	t.mu.Unlock()
	t.boundRest()
}

// boundRest bounds what is left once one direction is done.
func (t *tunnel) boundRest() {
	t.halfClosed.Store(true)
	t.touch()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(0))
	}
}

func (t *tunnel) sendEarly() bool {
	granted := t.up.reserve(len(t.early))
	n, err := t.upstream.Write(t.early[:granted])
	t.up.unreserve(granted - n)
	switch {
	case err != nil:
		t.stopAs(causeOf(ending{err: err, wrote: true}, true), true)
	case n < len(t.early):
		t.stopAs(t.overSent(), true)
	default:
		return true
	}
	return false
}
