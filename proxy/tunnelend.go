package proxy

import (
	"cmp"
	"io"
	"net"
	"time"
)

// stop ends the tunnel from outside. It reports whether that is why it ends.
func (t *tunnel) stop(cause Cause) bool { return t.stopAs(cause, true) }

// stopAs sets why the tunnel ends, unless that is set already, and reports whether it
// did. A forced end wakes both directions and resets both connections: a peer must be
// able to distinguish it from an orderly end, since some protocols end a message by
// closing.
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

// setHelloDeadline is setClientDeadline for reads alone: in report mode the target's bytes
// are relayed meanwhile.
func (t *tunnel) setHelloDeadline(d time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != "" {
		return io.ErrClosedPipe
	}
	return t.client.SetReadDeadline(d)
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

// drainSendBuffer lets the kernel deliver what one peer sent before it reset its
// connection, as long as the delivery makes progress: a reset discards what the other
// peer has not received. The kernel has no event for that, so drainSendBuffer polls;
// nearly always there is nothing to wait for.
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
