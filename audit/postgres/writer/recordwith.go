package writer

import (
	"context"
	"fmt"

	"github.com/sallyport/sallyport/audit"
)

// RecordWith makes an event durable together with its companion. It returns nil if both are
// durable and the companion had an effect.
//
// With [audit.ErrNoEffect] or [audit.ErrRefused] the event is durable without an effect of its companion,
// and the log records the event that [audit.Companion.Void] returns. With any other error the
// outcome is unknown, and both or neither may become durable later; the event alone can, with
// the event of Void behind it. Nothing is recorded during a known outage: the journal holds
// no companions.
func (l *Log) RecordWith(ctx context.Context, e *audit.Event, with audit.Companion) error {
	c, err := newCompanion(with)
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	w := newWaiter(e)
	w.companion, w.size = c, w.size+int64(c.size)
	if o := l.currentOutage(); o != nil {
		return l.reject(w, o.error())
	}
	if err := l.enqueue(ctx, w); err != nil {
		return err
	}
	if err := l.wait(ctx, w); err != nil { // c may still belong to the committer
		return err
	}
	return c.err
}
