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

// tunnel is one open CONNECT. Two goroutines relay its bytes, and one timer watches both
// directions. The first cause that ends the tunnel is its close reason.
type tunnel struct {
	admission *Admission
	client    Stream
	early     []byte // received from the client and not relayed yet
	upstream  Stream
	config    TunnelConfig
	idle      time.Duration

	up, down   *meter       // of the admission
	lastActive atomic.Int64 // monotonic nanoseconds since the tunnel began
	began      time.Time
	halfClosed atomic.Bool

	mayBeRequest bool   // see Tracker.RunConnect
	begun        func() // nil: not called

	mu sync.Mutex
	// At deadline, the tunnel is closed with deadlineCause. The deadline is only ever moved
	// to an earlier time.
	deadline      time.Time
	deadlineCause Cause

	cause  Cause // the first cause
	forced bool  // closed by Sallyport or broken: the peers must not see an orderly close
	woken  bool  // both connections have a deadline in the past
	ended  bool  // the connections are closed or being closed by run
	watch  *time.Timer
	// keptAlive means that the connection to the target has keepalive.
	keptAlive bool
	queued    int // bytes that the kernel had not delivered at the last check

	leavesClient bool // close leaves the client's connection open
	serverFirst  bool // the target's bytes were relayed before the client's were checked

	tracker *Tracker
	// serverName is the decision about the host that the ClientHello names, where that is
	// not the target. The tracker's lock guards it.
	serverName *Admission
}

// stricter returns the lower of two limits. If own is 0, it returns configured.
func stricter(configured, own time.Duration) time.Duration {
	if own > 0 && own < configured {
		return own
	}
	return configured
}

// ending is how the relay of one direction ended.
type ending struct {
	err   error // nil: the source ended in order (EOF)
	limit bool  // the source sent more than the byte limit
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

// progress returns the bytes relayed so far: from the client, and from the target.
func (t *tunnel) progress() (sent, received int64) {
	return t.up.moved.Load(), t.down.moved.Load()
}

// TunnelConfig bounds every tunnel; a decision's own limits can only be stricter.
type TunnelConfig struct {
	IdleTimeout  time.Duration // without a byte in either direction; 0: 10 min
	MaxLifetime  time.Duration // since the decision; 0: 2 h
	HalfClosed   time.Duration // without a byte, after one direction has ended; 0: 1 min
	HelloTimeout time.Duration // for the whole ClientHello; 0: 5 s

	// EndWithCredential closes a tunnel CredentialGrace after its principal's credential
	// expires. If it is false, an open tunnel outlives its credential.
	EndWithCredential bool
	CredentialGrace   time.Duration

	// Barred is called when an admitted tunnel or request begins. It returns the cause
	// for which the tunnel or request must not begin, or "" to permit it. nil permits all.
	//
	// A request that is still in the gate would escape an operator's command that closes
	// open tunnels. The command therefore changes the result of Barred first, and then
	// calls [Tracker.Close]. Barred must not block, must be safe for concurrent use and
	// must not call the tracker.
	Barred func(*Admission) Cause
}

func (c TunnelConfig) withDefaults() TunnelConfig {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 10*time.Minute)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 2*time.Hour)
	c.HalfClosed = cmp.Or(c.HalfClosed, time.Minute)
	c.HelloTimeout = cmp.Or(c.HelloTimeout, 5*time.Second)
	return c
}

// touch records that bytes were relayed now.
func (t *tunnel) touch() { t.lastActive.Store(int64(time.Since(t.began))) }

// idleFor returns the time since the last relayed byte.
func (t *tunnel) idleFor() time.Duration {
	return time.Since(t.began) - time.Duration(t.lastActive.Load())
}

// idleLimit returns the idle timeout that applies now.
func (t *tunnel) idleLimit() time.Duration {
	if t.halfClosed.Load() {
		return min(t.idle, t.config.HalfClosed)
	}
	return t.idle
}

// untilCheck returns the time until the next check. The caller holds t.mu.
func (t *tunnel) untilCheck(idle time.Duration) time.Duration {
	next := min(t.idleLimit()-idle, time.Until(t.deadline))
	if !t.keptAlive {
		next = min(next, keepAliveAfter-time.Since(t.began))
	}
	return max(time.Millisecond, next)
}
