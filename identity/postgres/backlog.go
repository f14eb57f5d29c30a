package postgres

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/pause"
)

const (
	minBackoff   = 250 * time.Millisecond
	maxBackoff   = 15 * time.Second
	closeTimeout = 5 * time.Second  // for the remaining items at the end
	writeTimeout = 10 * time.Second // of one transaction in the background
)

// backlog is a bounded queue of items that are written in the background, in order. A failed
// write is retried until it succeeds. An item that the database refuses because of its
// content is dropped, so that it does not block the others. add is safe for concurrent use;
// one goroutine calls run.
type backlog[K comparable, V any] struct {
	what   string
	most   int           // the maximum number of waiting items
	chunk  int           // the maximum number of items in one transaction
	gather time.Duration // the wait for further items before a write
	write  func(context.Context, []V) error
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	waiting []V
	latest  map[K]int // by key: the index in waiting of its latest item
	writing int       // items removed from waiting and not written yet
	lost    int64
	err     error // of the latest attempt
}

func newBacklog[K comparable, V any](what string, most, chunk int, gather time.Duration, write func(context.Context, []V) error, log *slog.Logger) *backlog[K, V] {
	return &backlog[K, V]{
		what: what, most: most, chunk: chunk, gather: gather, write: write, log: log,
		wake: make(chan struct{}, 1), latest: map[K]int{},
	}
}

// add appends v, unless merge merges v into the latest waiting item of the same key. It
// returns false if the backlog is full.
func (b *backlog[K, V]) add(k K, v V, merge func(waiting *V) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, found := b.latest[k]; found && merge(&b.waiting[at]) {
		return true
	}
	if len(b.waiting)+b.writing >= b.most {
		b.lost++
		return false
	}
	b.latest[k] = len(b.waiting)
	b.waiting = append(b.waiting, v)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

func (b *backlog[K, V]) dequeue() []V {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.waiting
	b.waiting, b.latest = nil, map[K]int{}
	b.writing += len(batch)
	return batch
}

// run writes items until ctx ends, and then the remaining ones.
func (b *backlog[K, V]) run(ctx context.Context) {
	var left []V
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-b.wake:
			if pause.For(ctx, b.gather) {
				left = b.persist(ctx, b.dequeue())
			}
		}
	}
	b.finish(ctx, left)
}

// persist writes all items. If ctx ends first, it returns the remaining ones.
func (b *backlog[K, V]) persist(ctx context.Context, items []V) []V {
	for failures := 0; len(items) > 0; {
		n := min(len(items), b.chunk)
		err := b.writeChunk(ctx, items[:n])
		b.settle(n, err, ctx.Err() != nil)
		if err == nil {
			items, failures = items[n:], 0
			continue
		}
		wait := min(maxBackoff, minBackoff<<min(failures, 6))
		if failures++; failures == 1 && ctx.Err() == nil {
			b.log.WarnContext(ctx, "identity store: "+b.what+" cannot be written; they wait", "error", err)
		}
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return items
		}
	}
	return nil
}

// finish writes the remaining items, without a retry.
func (b *backlog[K, V]) finish(ctx context.Context, left []V) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for items := append(left, b.dequeue()...); len(items) > 0; {
		n := min(len(items), b.chunk)
		err := b.writeChunk(ctx, items[:n])
		b.settle(n, err, false)
		if err != nil {
			b.log.WarnContext(ctx, "identity store: "+b.what+" were not written before the end", "count", len(items), "error", err)
			return
		}
		items = items[n:]
	}
}

func (b *backlog[K, V]) settle(n int, err error, ending bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.writing -= n
	}
	if !ending {
		b.err = err
	}
}

// writeChunk writes a chunk in one transaction. If the database refuses the content, the
// chunk is halved until each refused item is alone. Refused items are dropped.
func (b *backlog[K, V]) writeChunk(ctx context.Context, items []V) error {
	err := b.writeWithin(ctx, items)
	if !isContent(err) {
		return err
	}
	if len(items) == 1 {
		b.mu.Lock()
		b.lost++
		b.mu.Unlock()
		b.log.ErrorContext(ctx, "identity store: the database refuses one of the "+b.what+"; it is dropped", "error", err)
		return nil
	}
	half := len(items) / 2
	if err := b.writeChunk(ctx, items[:half]); err != nil {
		return err
	}
	return b.writeChunk(ctx, items[half:])
}

func (b *backlog[K, V]) writeWithin(ctx context.Context, items []V) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return b.write(ctx, items)
}

func (b *backlog[K, V]) status() (waiting int, lost int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) + b.writing, b.lost, b.err
}

// isContent reports whether the database refused the content of a row, so that a retry cannot
// succeed. These are the classes "data exception", "integrity constraint violation" and
// "program limit exceeded" (PostgreSQL documentation, appendix A).
func isContent(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
