package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
)

// Record makes an event durable; see proxy.Recorder for the contract. An event
// without a time gets it here.
func (l *Log) Record(ctx context.Context, e *audit.Event) error {
	w := newWaiter(e)
	if o := l.currentOutage(); o != nil {
		if err := l.recordInOutage(w, o); err != nil {
			return err
		}
	} else if err := l.enqueue(ctx, w); err != nil {
		return err
	}
	return l.wait(ctx, w)
}

// recordInOutage enqueues during an outage, without waiting for a free place. With a journal
// the caller waits for the result; without one the event is written after the recovery of
// the database, and the caller receives an error at once.
func (l *Log) recordInOutage(w *waiter, o *outage) error {
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
			size += endReserve
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

// reject counts an event that is not accepted.
func (l *Log) reject(w *waiter, err error) error {
	w.timer.Stop()
	l.stats.rejected.Add(1)
	if errors.Is(err, ErrShare) {
		l.stats.overShare.Add(1)
	}
	return err
}

// enqueue hands the event to the committer. It waits for a full queue like for the database
// itself. An event that was not queued is not written.
func (l *Log) enqueue(ctx context.Context, w *waiter) error {
	w.timer.Reset(l.config.Deadline)
	for {
		full, freed := l.queue.put(w)
		if full == "" {
			return nil
		}
		select {
		case <-freed:
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

// AvailableTo is [Log.Available] for the events of one step: it returns an error,
// wrapping [ErrUnavailable] and [ErrShare], also where the database is unavailable
// and the step or its repository has used its share of the journal.
func (l *Log) AvailableTo(of audit.Source) error {
	o := l.currentOutage()
	switch {
	case o == nil:
		return nil
	case !l.mayAllow(o):
		return o.error()
	}
	return l.journalShare(of, audit.MaxRequestRecord)
}

// endReserve is what an allow takes of a share for its end, which is recorded although
// the share is used up by then.
const endReserve = 1 << 10

// journalShare returns an error where an event of that size exceeds the journal's share of
// a repository or step. What waits in the queue counts as journaled.
func (l *Log) journalShare(of audit.Source, size int64) error {
	if of == (audit.Source{}) {
		return nil
	}
	waiting, waitingOfRepository, waitingOfStep := l.queue.waiting(of)
	repository, step := l.journalUse.of(of)
	full := share(l.config.JournalBytes, l.stats.journalBytes.Load()+waiting, repository+waitingOfRepository, step+waitingOfStep, size)
	if full == "" {
		return nil
	}
	return shareError{full + " of the journal"}
}
