package reader

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// WalkTo is Walk up to a size: the leaves below it with their events, the
// checkpoints up to it, and nothing that is not sealed.
func (r *Reader) WalkTo(ctx context.Context, size int64, sink Sink, progress func(leaves int64)) error {
	return r.walk(ctx, size, sink, progress)
}

// partsAhead is how many parts may be on their way from the database to a sink.
const partsAhead = 6

// walkConnections is how many connections read at once. With two, each processor of a small
// machine was idle for a fifth of the time: a connection waits for the database, or the
// database for the connection.
const walkConnections = 4

// Walk gives all of the log to the sink, once. The sink runs in the caller's
// goroutine, beside the reading; what it is given holds until it returns.
// progress is called now and then with how many leaves are behind.
//
// Up to walkConnections connections read one snapshot. They read the windows of the tree in
// turn, and the sink receives the windows in the order of the log.
func (r *Reader) Walk(ctx context.Context, sink Sink, progress func(leaves int64)) error {
	return r.walk(ctx, 0, sink, progress)
}

// walk gives the leaves below a size and the checkpoints up to it; 0: all of the
// log, and what is not sealed.
func (r *Reader) walk(ctx context.Context, size int64, sink Sink, progress func(leaves int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &walk{size: size, full: make(chan *part, partsAhead), empty: make(chan *part, partsAhead), next: -1, more: true}
	for range partsAhead {
		w.empty <- new(part)
	}
	readers := []*Reader{r}
	for len(readers) < walkConnections {
		another := r.another(ctx)
		if another == nil {
			break
		}
		defer another.Close()
		readers = append(readers, another)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(w.full)
		failed <- w.read(ctx, cancel, readers)
	}()
	var done int64
	for p := range w.full {
		select {
		case <-p.ready:
		case <-ctx.Done():
			continue // the part may never become ready
		}
		if size > 0 {
			p.cut(size)
		}
		if p.unsealed {
			for i := range p.entries {
				sink.Unsealed(&p.entries[i])
			}
		} else {
			p.deliver(sink)
			done += int64(len(p.entries))
		}
		if progress != nil {
			progress(done)
		}
		w.empty <- p
	}
	err := <-failed
	if err == nil {
		// A context that ends after the last read may have skipped parts above. Without an
		// error, the sink would count them as missing from the log.
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("read the audit log: %w", database.Explain("read", &r.connect.Config, err))
	}
	return nil
}

// another returns a reader of the same snapshot on a connection of its own; nil if that
// cannot be opened. The walk then uses fewer connections.
func (r *Reader) another(ctx context.Context) *Reader {
	if r.alone {
		return nil
	}
	var snapshot string
	if err := r.tx.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&snapshot); err != nil {
		return nil
	}
	conn, err := database.Connect(ctx, r.connect)
	if err != nil {
		return nil
	}
	s := &Reader{connect: r.connect, conn: conn, window: r.window}
	if s.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}); err == nil {
		_, err = s.tx.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'`) // it takes no parameter
	}
	if err != nil {
		s.Close()
		return nil
	}
	return s
}

// walk is one reading of the log.
type walk struct {
	size  int64      // where it ends; 0: with the log
	full  chan *part // in the order of the log, each before it is ready
	empty chan *part

	mu   sync.Mutex // held while a window's leaves are read, which show where the next begins
	next int64
	more bool
	jumps
}

// read fills parts until there is nothing left. The first of the readers reads
// what is not sealed, when all else is on its way.
func (w *walk) read(ctx context.Context, cancel context.CancelCauseFunc, readers []*Reader) error {
	var wg sync.WaitGroup
	errs := make([]error, len(readers))
	for i, r := range readers {
		wg.Go(func() {
			if errs[i] = w.readSealed(ctx, r); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if w.size > 0 {
		return nil
	}
	return readers[0].readUnsealed(ctx, w)
}

// acquirePart waits for a free part, and queuePart queues a filled part for delivery.
func (w *walk) acquirePart(ctx context.Context) (*part, error) {
	select {
	case p := <-w.empty:
		p.reset()
		return p, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (w *walk) queuePart(ctx context.Context, p *part) error {
	select {
	case w.full <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readSealed reads windows until another has read the last.
func (w *walk) readSealed(ctx context.Context, r *Reader) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	for {
		p, err := w.window(ctx, r)
		if p == nil || err != nil {
			return err
		}
		if err := r.readEvents(ctx, p); err != nil {
			return err
		}
		p.settle()
		close(p.ready)
	}
}

// window reads the leaves of the next window, and lets another continue. Nil: there
// is none.
func (w *walk) window(ctx context.Context, r *Reader) (*part, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.more || w.size > 0 && w.next >= w.size-1 {
		return nil, nil
	}
	p, err := w.acquirePart(ctx)
	if err != nil {
		return nil, err
	}
	if w.next, w.more, err = r.readLeaves(ctx, p, w.next); err != nil {
		w.more = false
		return nil, err
	}
	w.jumps.add(p.entries)
	return p, w.queuePart(ctx, p)
}
