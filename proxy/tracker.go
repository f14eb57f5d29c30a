package proxy

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Tracker runs the tunnels, and lists the open tunnels and the requests in progress. It
// is safe for concurrent use.
type Tracker struct {
	config TunnelConfig

	mu       sync.Mutex
	shut     bool // drained: a new tunnel is closed at once
	open     map[*tunnel]struct{}
	changed  chan struct{} // closed and replaced when the last open tunnel ends
	requests map[*request]struct{}
	active   activation    // the present one; the zero value where nothing is reevaluated
	stale    chan struct{} // another one was applied to something open
}

// request is an admitted HTTP request in progress, which the caller of [Tracker.Begin]
// forwards.
type request struct {
	admission *Admission
	stop      func(Cause)
}

// NewTracker returns a tracker without tunnels.
func NewTracker(c TunnelConfig) *Tracker {
	return &Tracker{config: c.withDefaults(), open: make(map[*tunnel]struct{}), changed: make(chan struct{}), requests: make(map[*request]struct{}),
		stale: make(chan struct{}, 1)}
}

func (t *Tracker) add(tun *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[tun] = struct{}{}
	tun.tracker = t
	t.begun(tun.admission)
	if t.shut {
		tun.stop(CauseShutdown)
	}
	if cause := t.barred(tun.admission); cause != "" {
		tun.stop(cause)
	}
	if cause := tun.admission.stopped; cause != "" {
		tun.stop(cause)
	}
}

func (t *Tracker) barred(a *Admission) Cause {
	if t.config.Barred == nil {
		return ""
	}
	return t.config.Barred(a)
}

// Begin adds an admitted request that the caller forwards, so that [Tracker.Close]
// reaches it: stop is then called at most once, with the cause, perhaps before Begin
// returns, and must not block or call the tracker. The caller calls end when the request
// is over.
func (t *Tracker) Begin(a *Admission, stop func(Cause)) (end func()) {
	r := &request{a, stop}
	t.mu.Lock()
	defer t.mu.Unlock()
	if cause := t.barred(a); cause != "" {
		stop(cause)
		return func() {}
	}
	t.requests[r] = struct{}{}
	t.begun(a)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.requests, r)
	}
}

func (t *Tracker) remove(tun *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, tun)
	if len(t.open) == 0 {
		close(t.changed)
		t.changed = make(chan struct{})
		closeIdlePipes()
	}
}

// TunnelInfo describes an open tunnel.
type TunnelInfo struct {
	Admission *Admission
	Since     time.Time
	Sent      int64
	Received  int64
}

// Tunnels lists the open tunnels, the oldest first.
func (t *Tracker) Tunnels() []TunnelInfo {
	t.mu.Lock()
	list := make([]*tunnel, 0, len(t.open))
	for tun := range t.open {
		list = append(list, tun)
	}
	t.mu.Unlock()
	infos := make([]TunnelInfo, len(list))
	for i, tun := range list {
		sent, received := tun.progress()
		infos[i] = TunnelInfo{Admission: tun.admission, Since: tun.admission.Admitted, Sent: sent, Received: received}
	}
	slices.SortFunc(infos, func(a, b TunnelInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Admission.ID, b.Admission.ID))
	})
	return infos
}

// Len is the number of open tunnels.
func (t *Tracker) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// Close ends every open tunnel and request for which the function returns true, with the
// cause, and returns how many there were. It does not wait for their ends to be recorded.
func (t *Tracker) Close(cause Cause, which func(*Admission) bool) int {
	n := t.closeTunnels(cause, which)
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.requests {
		if which == nil || which(r.admission) {
			delete(t.requests, r)
			r.admission.stopped = cause
			r.stop(cause)
			n++
		}
	}
	return n
}

func (t *Tracker) closeTunnels(cause Cause, which func(*Admission) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for tun := range t.open {
		isMeant := which == nil || which(tun.admission) || tun.serverName != nil && which(tun.serverName)
		if isMeant && tun.stop(cause) {
			n++
		}
	}
	return n
}

// Drain waits until no tunnel is open, and returns 0. When ctx is done first, it closes
// what is left, with the cause shutdown, waits for those, and returns how many it had to
// close; a tunnel that is started after that is closed at once. One that is started after
// a 0 continues: it was admitted before the shutdown began, and the caller drains again.
func (t *Tracker) Drain(ctx context.Context) int {
	if t.waitEmpty(ctx.Done()) {
		return 0
	}
	t.mu.Lock()
	t.shut = true
	t.mu.Unlock()
	n := t.closeTunnels(CauseShutdown, nil)
	t.waitEmpty(nil)
	return n
}

func (t *Tracker) waitEmpty(done <-chan struct{}) bool {
	for {
		t.mu.Lock()
		n, changed := len(t.open), t.changed
		t.mu.Unlock()
		if n == 0 {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// begun compares the activation that admitted what begins with the present one. The
// lock is held.
func (t *Tracker) begun(a *Admission) {
	if t.active != (activation{}) && a.active != t.active {
		t.wake()
	}
}

// wake reports that there is something to reevaluate. It does not block.
func (t *Tracker) wake() {
	select {
	case t.stale <- struct{}{}:
	default: // it is reported already
	}
}
