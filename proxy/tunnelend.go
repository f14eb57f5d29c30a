package proxy

import (
	"cmp"
	"io"
	"net"
	"time"
)

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
	if !forced || t.woken || t.ended || t.leavesClient {
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
	sent, received := t.progress()
	return Outcome{Sent: sent, Received: received, Cause: cmp.Or(t.cause, CauseInternal)}
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
			drainSendBuffer(raw)
		case CauseClientClosed:
			drainSendBuffer(tcpOf(t.upstream))
		}
		for _, side := range [...]*net.TCPConn{tcpOf(t.upstream), raw} {
			if side != nil {
				_ = side.SetLinger(0)
				_ = side.Close() // without TLS's close_notify: it was not an orderly end
			}
		}
	}
	_ = t.upstream.Close()
	if !t.leavesClient {
		_ = t.client.Close()
	}
}

// drainSendBuffer lets the kernel deliver what one peer said before it broke off, as long
// as it gets on with it: a reset throws away what the other one has not got yet.
// There is no event for that, so it asks; nearly always there is nothing to wait for.
func drainSendBuffer(conn *net.TCPConn) {
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
