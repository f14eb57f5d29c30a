package writer

import (
	"errors"
	"time"

	"github.com/sallyport/sallyport/audit"
)

func (l *Log) number(g *group, e *audit.Event, w *waiter) {
	l.sequence++
	e.Writer, e.WriterSequence, g.writer = l.writer, l.sequence, l.writer
	g.add(e, w)
}

// release answers the callers that wait for the group. With an error the allows among
// them are refused, although they are written. An allow that is written and
// was not granted is closed.
func (l *Log) release(g *group, refused error) {
	l.stats.groups.Add(1)
	l.busy = true
	for i := range g.rows {
		w := g.rows[i].waiter
		if c := g.rows[i].companion; c != nil && c.err != nil {
			l.pending = append(l.pending, c.voidEvent())
			if refused, ok := errors.AsType[companionError](c.err); ok && refused.blocked() {
				l.companionsBlocked = time.Now()
			}
		}
		if w == nil {
			continue
		}
		e := w.event // the waiter is not ours any more once its state is finished
		allow := isAllow(e)
		var err error
		if allow {
			err = refused
		}
		granted := w.state.CompareAndSwap(taken, finished)
		if allow && (!granted || err != nil) {
			l.pending = append(l.pending, closing(e, time.Now()))
		}
		if granted {
			w.done <- err
		}
	}
}
