package writer

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
)

var zeroAddress netip.Addr

// The states of a waiter. The committer moves it from queued to taken and to
// finished, its caller from queued or taken to left; who is first, wins.
const (
	queued   = iota
	taken    // the event has its number
	finished // the result is in done
	left     // the caller has gone with an error
)

// A waiter is one Record under way.
type waiter struct {
	event     *audit.Event
	companion *companion // nil: none
	size      int64      // of the event and its companion in memory
	state     atomic.Int32
	done      chan error // buffered: one
	timer     *time.Timer
}

// waiters saves the allocation of a channel and a timer for each event. A waiter
// whose caller left is not put back: the committer may still hold it.
var waiters = sync.Pool{New: func() any {
	w := &waiter{done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}}

// newWaiter returns the waiter of an event, which is normalised and gets its time.
func newWaiter(e *audit.Event) *waiter {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Normalise()
	e.Detach()
	w := waiters.Get().(*waiter)
	w.event, w.companion, w.size = e, nil, int64(e.Size())
	w.state.Store(queued)
	return w
}

func (w *waiter) class() class {
	if w.companion != nil {
		return accompanied
	}
	return plain
}

// release gives the waiter back to the pool. No other goroutine holds it.
func (w *waiter) release(err error) error {
	w.timer.Stop()
	w.event, w.companion = nil, nil
	waiters.Put(w)
	return err
}

func isAllow(e *audit.Event) bool { return e.Kind == audit.KindDecision && e.Verdict == verdictAllow }

// The words of the policy package that the log itself writes. An audit record
// is a format of its own, and imports nothing of ours.
const (
	verdictAllow     = "allow"
	verdictDeny      = "deny"
	auditUnavailable = "audit_unavailable"
	actionConnect    = "connect"
)

// refuse turns an allow that was not reported to its caller into the refusal that its client
// got.
func refuse(e *audit.Event) {
	e.Verdict, e.WouldDeny, e.Reason, e.Status = verdictDeny, false, auditUnavailable, 503
	e.DialedAddress, e.Addresses = zeroAddress, nil
	e.Attributes = append(e.Attributes, audit.Attribute{Name: "policy_verdict", Value: verdictAllow})
}

// closing is the event that ends an allow which was written after its client
// had been refused: nothing was let out.
func closing(e *audit.Event, now time.Time) *audit.Event {
	c := &audit.Event{
		Time: now, Kind: audit.KindRequestClosed, DecisionID: e.DecisionID,
		Status: 503, CloseReason: auditUnavailable,
	}
	if e.Action == actionConnect {
		c.Kind = audit.KindTunnelClosed
	}
	c.Normalise()
	return c
}
