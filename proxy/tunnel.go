package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// tunnel is one open CONNECT. Two goroutines carry its bytes, one timer watches
// both directions, and whoever first has a reason to end it says why.
type tunnel struct {
	admission *Admission
	client    Stream
	early     []byte
	upstream  Stream
	config    TunnelConfig
	idle      time.Duration

	up, down   *meter       // the admission's
	lastActive atomic.Int64 // monotonic nanoseconds since the tunnel began
	began      time.Time
	halfClosed atomic.Bool

	mayBeRequest bool   // see Tracker.RunConnect
	begun        func() // nil: nobody waits for it

	mu sync.Mutex
	// When it ends at the latest, and why then. Only ever brought forward.
	deadline      time.Time
	deadlineCause Cause

	cause  Cause // the first that was given
	forced bool  // cut by us or broken: the peers must not take it for an orderly end
	woken  bool  // both connections have a deadline in the past
	ended  bool  // the connections are closed or being closed by run
	watch  *time.Timer
	queued int // what the kernel had not delivered when check last looked

	leavesClient bool // close leaves the client's connection open
}

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
	// On the monotonic clock: somebody who sets the machine's does not cut tunnels.
	t.deadline = a.began.Add(lifetime)
	if again := a.reevaluated.Load(); again != nil {
		t.shorten(again)
	}
	return t
}

func stricter(configured, own time.Duration) time.Duration {
	if own > 0 && own < configured {
		return own
	}
	return configured
}

// run carries the tunnel from its first byte to its end.
func (t *tunnel) run() Outcome {
	defer t.close()
	t.startWatch()
	if t.admission.Decision.Protocol != policy.ProtocolAny {
		// What a request has become was never to be TLS.
		if t.admission.action != policy.Forward && !t.checkHello() {
			return t.outcome()
		}
	}
	if t.begun != nil {
		t.begun()
		t.begun = nil
	}
	if len(t.early) > 0 && !t.sendEarly() {
		return t.outcome()
	}
	t.early = nil
	var other sync.WaitGroup
	other.Go(func() {
		t.finish(t.relay(t.client, t.upstream, t.down), false)
	})
	t.finish(t.relay(t.upstream, t.client, t.up), true)
	other.Wait()
	t.stopAs(CauseFinished, false)
	return t.outcome()
}

// finish ends one direction: a clean end is passed on, and bounds the other
// direction; everything else ends the tunnel.
func (t *tunnel) finish(end ending, fromClient bool) {
	switch {
	case end.limit && fromClient:
		t.stopAs(t.overSent(), true)
	case end.limit && t.down.isStepNearer():
		t.stopAs(CauseStepBytesReceivedLimit, true)
	case end.limit:
		t.stopAs(CauseBytesReceivedLimit, true)
	case fromClient && end.wrote && errors.Is(end.err, syscall.EPIPE):
		// The target had ended its side in order before it stopped to listen: what
		// it said is still ours to deliver.
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
	forced := t.forced
	t.mu.Unlock()
	if forced {
		return // a broken tunnel must not look like one that ended
	}
	if t.halfClosed.Swap(true) {
		return // the other direction has ended too: closing says it all
	}
	t.boundRest()
	// A peer that has gone by now shows in the other direction.
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

// ending is how one direction came to its end.
type ending struct {
	err   error // nil: the source is done
	limit bool  // there was more than the limit lets pass
	wrote bool  // err came from the destination, not from the source
}

func causeOf(end ending, fromClient bool) Cause {
	gone := errors.Is(end.err, syscall.ECONNRESET) || errors.Is(end.err, syscall.EPIPE) || errors.Is(end.err, io.ErrUnexpectedEOF)
	switch clientSide := fromClient != end.wrote; {
	case clientSide && gone:
		return CauseClientClosed
	case clientSide:
		return CauseClientError
	case gone:
		return CauseTargetClosed
	default:
		return CauseTargetError
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

// progress is how much has passed so far.
func (t *tunnel) progress() (sent, received int64) {
	return t.up.moved.Load(), t.down.moved.Load()
}

// tcpOf finds the TCP connection below a client's stream, nil if there is none.
func tcpOf(s net.Conn) *net.TCPConn {
	switch c := s.(type) {
	case *net.TCPConn:
		return c
	case *tls.Conn:
		return tcpOf(c.NetConn())
	case interface{ NetConn() net.Conn }:
		return tcpOf(c.NetConn())
	}
	return nil
}
