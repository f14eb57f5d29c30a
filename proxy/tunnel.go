package proxy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
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
	upstream  *net.TCPConn
	config    TunnelConfig
	idle      time.Duration
	deadline  time.Time
	overdue   Cause // why it ends at the deadline

	up, down   direction
	lastActive atomic.Int64 // monotonic nanoseconds since the tunnel began
	began      time.Time
	halfClosed atomic.Bool

	mu     sync.Mutex
	cause  Cause // the first that was given
	forced bool  // cut by us or broken: the peers must not take it for an orderly end
	woken  bool  // both connections have a deadline in the past
	ended  bool  // the connections are closed or being closed by run
	watch  *time.Timer
	queued int // what the kernel had not delivered when check last looked
}

// direction counts the bytes of one way and knows their limit.
type direction struct {
	moved atomic.Int64
	limit int64 // 0: none
}

// room is how many bytes may still pass, at most want.
func (d *direction) room(want int) int {
	if d.limit == 0 {
		return want
	}
	return int(min(int64(want), d.limit-d.moved.Load()))
}

func newTunnel(c TunnelConfig, a *Admission, client Stream, early []byte, upstream *net.TCPConn) *tunnel {
	limits := a.Decision.Limits
	t := &tunnel{
		admission: a,
		client:    client,
		early:     early,
		upstream:  upstream,
		config:    c,
		idle:      stricter(c.IdleTimeout, limits.Idle),
		began:     time.Now(),
		overdue:   CauseLifetime,
	}
	lifetime := stricter(c.MaxLifetime, limits.Lifetime)
	if e := a.Decision.Expires; !e.IsZero() {
		lifetime = min(lifetime, e.Sub(a.Admitted))
	}
	if c.EndWithCredential && a.Principal != nil {
		if left := a.Principal.Expires.Add(c.CredentialGrace).Sub(a.Admitted); left < lifetime {
			lifetime, t.overdue = left, CauseCredentialEnded
		}
	}
	// On the monotonic clock: somebody who sets the machine's does not cut tunnels.
	t.deadline = a.began.Add(lifetime)
	t.up.limit, t.down.limit = limits.Sent, limits.Received
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
		if !t.checkHello() {
			return t.outcome()
		}
	}
	if len(t.early) > 0 && !t.sendEarly() {
		return t.outcome()
	}
	t.early = nil
	var other sync.WaitGroup
	other.Go(func() {
		t.finish(t.carry(t.client, t.upstream, &t.down), false)
	})
	t.finish(t.carry(t.upstream, t.client, &t.up), true)
	other.Wait()
	t.stopAs(CauseFinished, false)
	return t.outcome()
}

// finish ends one direction: a clean end is passed on, and bounds the other
// direction; everything else ends the tunnel.
func (t *tunnel) finish(end ending, fromClient bool) {
	switch {
	case end.limit && fromClient:
		t.stopAs(CauseSentLimit, true)
	case end.limit:
		t.stopAs(CauseReceivedLimit, true)
	case fromClient && end.wrote && errors.Is(end.err, syscall.EPIPE):
		// The target had ended its side in order before it stopped to listen: what
		// it said is still ours to deliver.
		t.breakOff(causeOf(end, fromClient))
	case end.err != nil:
		t.stopAs(causeOf(end, fromClient), true)
	case fromClient:
		t.passOnEnd(t.upstream.CloseWrite)
	default:
		t.passOnEnd(t.client.CloseWrite)
	}
}

func (t *tunnel) passOnEnd(closeWrite func() error) {
	t.mu.Lock()
	forced := t.forced
	t.mu.Unlock()
	if forced {
		return // a broken tunnel must not look like one that ended
	}
	t.boundRest()
	// A peer that has gone by now shows in the other direction.
	_ = closeWrite()
}

// breakOff ends the direction to the target and leaves the other one its time.
func (t *tunnel) breakOff(cause Cause) {
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
	n, err := t.upstream.Write(t.early[:t.up.room(len(t.early))])
	t.up.moved.Add(int64(n))
	switch {
	case err != nil:
		t.stopAs(causeOf(ending{err: err, wrote: true}, true), true)
	case n < len(t.early):
		t.stopAs(CauseSentLimit, true)
	default:
		return true
	}
	return false
}

// startWatch arms the one timer: it fires when the tunnel could have been idle
// for too long or has come to its deadline, looks, and arms itself again.
func (t *tunnel) startWatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = time.AfterFunc(t.untilCheck(0), t.check)
}

func (t *tunnel) check() {
	idle := time.Since(t.began) - time.Duration(t.lastActive.Load())
	if idle >= t.quiet() && t.delivering() {
		t.touch()
		idle = 0
	}
	switch {
	case !time.Now().Before(t.deadline):
		t.stop(t.overdue)
		return
	case t.halfClosed.Load() && idle >= t.quiet():
		t.stop(CauseHalfClosed)
		return
	case idle >= t.quiet():
		t.stop(CauseIdle)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(idle))
	}
}

// delivering reports whether the kernel still has bytes for a peer and got rid
// of some since it was last asked: megabytes can be on their way to a slow peer
// when nothing is left for us to move, and a reset would throw them away.
func (t *tunnel) delivering() bool {
	now := undelivered(t.upstream)
	if raw := tcpOf(t.client); raw != nil {
		now += undelivered(raw)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.queued
	t.queued = now
	return now > 0 && now != before
}

// quiet is how long the tunnel may be without a byte, as things stand.
func (t *tunnel) quiet() time.Duration {
	if t.halfClosed.Load() {
		return min(t.idle, t.config.HalfClosed)
	}
	return t.idle
}

func (t *tunnel) untilCheck(idle time.Duration) time.Duration {
	return max(time.Millisecond, min(t.quiet()-idle, time.Until(t.deadline)))
}

// touch notes that bytes have moved.
func (t *tunnel) touch() { t.lastActive.Store(int64(time.Since(t.began))) }

// progress is how much has passed so far.
func (t *tunnel) progress() (sent, received int64) {
	return t.up.moved.Load(), t.down.moved.Load()
}

// stop ends the tunnel from outside. It reports whether that is why it ends.
func (t *tunnel) stop(cause Cause) bool { return t.stopAs(cause, true) }

// stopAs notes why the tunnel ends, if nobody did before, which it reports. A
// forced end wakes both directions and resets both connections: a peer must be
// able to tell a cut from an end, since some protocols end a message by closing.
func (t *tunnel) stopAs(cause Cause, forced bool) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first = t.cause == ""; first {
		t.cause, t.forced = cause, forced
	}
	if !forced || t.woken || t.ended {
		return first
	}
	t.woken = true
	if t.watch != nil {
		t.watch.Stop()
	}
	past := time.Unix(1, 0)
	_ = t.upstream.SetDeadline(past)
	_ = t.client.SetDeadline(past)
	return first
}

// setClientDeadline gives the client so long for what comes next, zero for as
// long as it takes, unless the tunnel is stopped: then the deadline that ends it stays.
func (t *tunnel) setClientDeadline(d time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != "" {
		return io.ErrClosedPipe
	}
	return t.client.SetDeadline(d)
}

func (t *tunnel) outcome() Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Outcome{Sent: t.up.moved.Load(), Received: t.down.moved.Load(), Cause: cmp.Or(t.cause, CauseInternal)}
}

func (t *tunnel) close() {
	t.mu.Lock()
	t.ended = true
	t.watch.Stop()
	forced, cause := t.forced, t.cause
	t.mu.Unlock()
	// Without the lock: closing a TLS connection may write to a slow client.
	if forced {
		raw := tcpOf(t.client)
		switch cause {
		case CauseTargetClosed:
			settle(raw)
		case CauseClientClosed:
			settle(t.upstream)
		}
		_ = t.upstream.SetLinger(0)
		if raw != nil {
			_ = raw.SetLinger(0)
			_ = raw.Close() // without TLS's close_notify: it was no orderly end
		}
	}
	_ = t.upstream.Close()
	_ = t.client.Close()
}

// settle lets the kernel deliver what one peer said before it broke off, as long
// as it gets on with it: a reset throws away what the other one has not got yet.
// There is no event for that, so it asks; nearly always there is nothing to wait for.
func settle(conn *net.TCPConn) {
	const pause, stalled, most = 5 * time.Millisecond, time.Second, 10 * time.Second
	if conn == nil {
		return
	}
	left := undelivered(conn)
	for began, moved := time.Now(), time.Now(); left > 0 && time.Since(moved) < stalled && time.Since(began) < most; {
		time.Sleep(pause)
		if now := undelivered(conn); now != left {
			left, moved = now, time.Now()
		}
	}
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

// carryBuffered moves bytes through a buffer of ours: the way for whatever is
// not a bare TCP connection on both sides.
func (t *tunnel) carryBuffered(dst io.Writer, src io.Reader, d *direction) ending {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		room := d.room(len(*buf))
		n, err := src.Read((*buf)[:max(room, 1)])
		if n > 0 {
			if room == 0 {
				return ending{limit: true}
			}
			t.touch()
			m, werr := dst.Write((*buf)[:n])
			d.moved.Add(int64(m))
			if werr != nil {
				return ending{err: werr, wrote: true}
			}
		}
		if err == io.EOF {
			return ending{}
		}
		if err != nil {
			return ending{err: err}
		}
	}
}

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferSize)
	return &b
}}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
