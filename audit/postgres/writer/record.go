package writer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
)

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
	event *audit.Event
	size  int64 // of the event in memory
	state atomic.Int32
	done  chan error // room for one
	timer *time.Timer
}

// waiters saves the allocation of a channel and a timer for each event. A waiter
// whose caller left is not put back: the committer may still hold it.
var waiters = sync.Pool{New: func() any {
	w := &waiter{done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}}

// Record makes an event durable; see proxy.Recorder for the contract. An event
// without a time gets it here.
func (l *Log) Record(ctx context.Context, e *audit.Event) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Normalise()
	e.Detach()
	w := waiters.Get().(*waiter)
	w.event, w.size = e, int64(e.Size())
	w.state.Store(queued)

	if o := l.away(); o != nil {
		if err := l.recordAway(w, o); err != nil {
			return err
		}
	} else if err := l.enqueue(ctx, w); err != nil {
		return err
	}
	return l.wait(ctx, w)
}

// recordAway enqueues during an outage, without waiting for room. With a journal
// the result is worth waiting for; without one the event is written when the
// database is back, and the caller hears at once that it is not yet.
func (l *Log) recordAway(w *waiter, o *outage) error {
	leave := l.config.Journal == "" || o.fatal || l.stats.journalFull.Load() || isAllow(w.event) && !l.mayAllow(o)
	if leave {
		w.state.Store(left)
	} else {
		w.timer.Reset(l.config.Deadline)
	}
	if o.fatal {
		l.stats.rejected.Add(1)
		return o.error()
	}
	if l.config.Journal != "" && !w.event.IsClosing() {
		size := w.size
		if isAllow(w.event) {
			size += endRoom
		}
		if err := l.journalShare(w.event.Source, size); err != nil {
			return l.reject(w, err)
		}
	}
	full, _ := l.queue.put(w)
	switch {
	case full == "the queue":
		return l.reject(w, fmt.Errorf("%w, and %d events wait already", o.error(), l.queue.len()))
	case full != "":
		return l.reject(w, shareError{full})
	case leave:
		l.stats.late.Add(1)
		return o.error()
	}
	return nil
}

// reject counts an event that is not taken over.
func (l *Log) reject(w *waiter, err error) error {
	w.timer.Stop()
	l.stats.rejected.Add(1)
	if errors.Is(err, ErrShare) {
		l.stats.overShare.Add(1)
	}
	return err
}

// enqueue hands the event to the committer. A full queue is waited for like the
// database itself; what did not get in was never taken over.
func (l *Log) enqueue(ctx context.Context, w *waiter) error {
	w.timer.Reset(l.config.Deadline)
	for {
		full, room := l.queue.put(w)
		if full == "" {
			return nil
		}
		select {
		case <-room:
		case <-w.timer.C:
			if full != "the queue" {
				return l.reject(w, shareError{full})
			}
			return l.reject(w, fmt.Errorf("%w: %d events have been waiting for %s", ErrUnavailable, l.queue.len(), l.config.Deadline))
		case <-ctx.Done():
			return l.reject(w, fmt.Errorf("%w: %s is full: %w", ErrUnavailable, full, context.Cause(ctx)))
		case <-l.done:
			return l.reject(w, ErrClosed)
		}
	}
}

func (l *Log) wait(ctx context.Context, w *waiter) error {
	var err error
	select {
	case err := <-w.done:
		return w.release(err)
	case <-ctx.Done():
		err = fmt.Errorf("%w: it did not answer in time: %w", ErrUnavailable, context.Cause(ctx))
	case <-w.timer.C:
		err = fmt.Errorf("%w: it did not answer within %s", ErrUnavailable, l.config.Deadline)
	case <-l.done:
		err = ErrClosed
	}
	w.timer.Stop()
	if w.state.CompareAndSwap(queued, left) || w.state.CompareAndSwap(taken, left) {
		l.stats.late.Add(1)
		return err
	}
	return w.release(<-w.done)
}

// release gives the waiter back to the pool. Nobody else holds it.
func (w *waiter) release(err error) error {
	w.timer.Stop()
	w.event = nil
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

// refuse turns an allow that nobody was told of into the refusal that its client
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
