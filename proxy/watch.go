package proxy

import (
	"time"

	"github.com/sallyport/sallyport/policy"
)

// startWatch starts the only timer. It fires when the tunnel could have been idle for too
// long or has reached its deadline, checks that, and starts again.
func (t *tunnel) startWatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch = time.AfterFunc(t.untilCheck(0), t.check)
}

func (t *tunnel) check() {
	t.startKeepAlive()
	idle := t.idleFor()
	if idle >= t.idleLimit() && t.delivering() {
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
	case t.halfClosed.Load() && idle >= t.idleLimit():
		t.stop(CauseHalfClosed)
		return
	case idle >= t.idleLimit():
		t.stop(CauseIdle)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(idle))
	}
}

// startKeepAlive gives the connection to the target keepalive when the tunnel is old enough.
func (t *tunnel) startKeepAlive() {
	t.mu.Lock()
	due := !t.keptAlive && time.Since(t.began) >= keepAliveAfter
	t.keptAlive = t.keptAlive || due
	t.mu.Unlock()
	if due {
		keepAlive(tcpOf(t.upstream))
	}
}

// delivering reports whether the kernel still has bytes for a peer and has delivered some
// since the last call: megabytes can be queued for a slow peer when nothing is left to
// relay, and a reset would discard them.
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

// shorten brings the tunnel's end forward to a new decision's. It never puts it off.
func (t *tunnel) shorten(d *policy.Decision) {
	end := t.admission.lastsUntil(d)
	t.mu.Lock()
	defer t.mu.Unlock()
	if end.IsZero() || !end.Before(t.deadline) {
		return
	}
	t.deadline, t.deadlineCause = end, CauseLifetime
	if t.watch != nil && !t.ended && !t.woken {
		t.watch.Reset(t.untilCheck(t.idleFor()))
	}
}
