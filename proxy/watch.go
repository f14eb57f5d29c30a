package proxy

import "time"

// startWatch arms the one timer: it fires when the tunnel could have been idle
// for too long or has come to its deadline, looks, and arms itself again.
func (t *tunnel) startWatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = time.AfterFunc(t.untilCheck(0), t.check)
}

func (t *tunnel) check() {
	idle := t.idleFor()
	if idle >= t.quiet() && t.delivering() {
		t.touch()
		idle = 0
	}
	t.mu.Lock()
	deadline, overdue := t.deadline, t.deadlineCause
	t.mu.Unlock()
	switch {
	case !time.Now().Before(deadline):
		t.stop(overdue)
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
	now := 0
	for _, side := range [...]Stream{t.upstream, t.client} {
		if raw := tcpOf(side); raw != nil {
			now += undelivered(raw)
		}
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

// untilCheck is when to look next. The lock is held.
func (t *tunnel) untilCheck(idle time.Duration) time.Duration {
	return max(time.Millisecond, min(t.quiet()-idle, time.Until(t.deadline)))
}

func (t *tunnel) idleFor() time.Duration {
	return time.Since(t.began) - time.Duration(t.lastActive.Load())
}

// touch notes that bytes have moved.
func (t *tunnel) touch() { t.lastActive.Store(int64(time.Since(t.began))) }
