package proxy

import (
	"cmp"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tunnel is one open CONNECT. Two goroutines relay its bytes, one timer watches both
// directions, and the first reason to end it is its close reason.
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
	begun        func() // nil: not called

	mu sync.Mutex
	// When it ends at the latest, and why then. Only ever brought forward.
	deadline      time.Time
	deadlineCause Cause

	cause  Cause // the first that was given
	forced bool  // closed by us or broken: the peers must not see an orderly end
	woken  bool  // both connections have a deadline in the past
	ended  bool  // the connections are closed or being closed by run
	watch  *time.Timer
	queued int // what the kernel had not delivered at the last check

	leavesClient bool // close leaves the client's connection open
}

func stricter(configured, own time.Duration) time.Duration {
	if own > 0 && own < configured {
		return own
	}
	return configured
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

// progress is how much has passed so far.
func (t *tunnel) progress() (sent, received int64) {
	return t.up.moved.Load(), t.down.moved.Load()
}

// TunnelConfig bounds every tunnel; a decision's own limits can only be stricter.
type TunnelConfig struct {
	IdleTimeout  time.Duration // without a byte in either direction; 0: 10 min
	MaxLifetime  time.Duration // from the decision on; 0: 2 h
	HalfClosed   time.Duration // for the other direction, once one is done, without a byte; 0: 1 min
	HelloTimeout time.Duration // for the whole ClientHello; 0: 5 s

	// EndWithCredential closes a tunnel when its principal's credential has ended
	// and CredentialGrace is over. Without it an open tunnel outlives the
	// credential that opened it.
	EndWithCredential bool
	CredentialGrace   time.Duration

	// Barred is called when an admitted tunnel or request begins, and returns the cause
	// for which it must not; "" permits it. It closes the gap between an operator's
	// command, which closes open tunnels, and what was in the gate at that moment: the
	// command first changes the result of Barred, and then calls [Tracker.Close]. It must
	// not block, must be safe for concurrent use and must not call the tracker. nil:
	// nothing is barred.
	Barred func(*Admission) Cause
}

func (c TunnelConfig) withDefaults() TunnelConfig {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 10*time.Minute)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 2*time.Hour)
	c.HalfClosed = cmp.Or(c.HalfClosed, time.Minute)
	c.HelloTimeout = cmp.Or(c.HelloTimeout, 5*time.Second)
	return c
}

// touch notes that bytes have moved.
func (t *tunnel) touch() { t.lastActive.Store(int64(time.Since(t.began))) }

func (t *tunnel) idleFor() time.Duration {
	return time.Since(t.began) - time.Duration(t.lastActive.Load())
}

// quiet is how long the tunnel may be without a byte at the moment.
func (t *tunnel) quiet() time.Duration {
	if t.halfClosed.Load() {
		return min(t.idle, t.config.HalfClosed)
	}
	return t.idle
}

// untilCheck is the time until the next check. The lock is held.
func (t *tunnel) untilCheck(idle time.Duration) time.Duration {
	return max(time.Millisecond, min(t.quiet()-idle, time.Until(t.deadline)))
}
