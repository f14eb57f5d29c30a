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
	closeTimeout = 5 * time.Second  // for what is left at the end
	writeTimeout = 10 * time.Second // of one transaction in the background
)

// backlog holds what is to be written in the background, in order and in bounded
// number. It is written again and again until it succeeds; what the database
// refuses for its content is dropped, so that it does not hold up the rest. Any
// number of goroutines may add; one runs.
type backlog[K comparable, V any] struct {
	what   string
	most   int           // how many may wait
	chunk  int           // how many are one transaction
	gather time.Duration // how long a group is waited for
	write  func(context.Context, []V) error
	log    *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	waiting []V
	latest  map[K]int // where in waiting the latest of a key is
	writing int       // taken from waiting and not yet written
	lost    int64
	err     error // of the latest attempt
}

func newBacklog[K comparable, V any](what string, most, chunk int, gather time.Duration, write func(context.Context, []V) error, log *slog.Logger) *backlog[K, V] {
	return &backlog[K, V]{
		what: what, most: most, chunk: chunk, gather: gather, write: write, log: log,
		wake: make(chan struct{}, 1), latest: map[K]int{},
	}
}

// add appends v, unless merge makes one of what waits last under the same key
// and of v. It returns false where there is no room.
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

func (b *backlog[K, V]) take() []V {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.waiting
	b.waiting, b.latest = nil, map[K]int{}
	b.writing += len(taken)
	return taken
}

// run writes until ctx ends, and then what is left.
func (b *backlog[K, V]) run(ctx context.Context) {
	var left []V
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-b.wake:
			if pause.For(ctx, b.gather) {
				left = b.persist(ctx, b.take())
			}
		}
	}
	b.finish(ctx, left)
}

// persist writes everything, and returns what is left when ctx ends first.
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

// finish writes what is left without trying twice.
func (b *backlog[K, V]) finish(ctx context.Context, left []V) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for items := append(left, b.take()...); len(items) > 0; {
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

// writeChunk writes a chunk in one transaction. One that is refused for its
// content is halved until the culprits are alone, and those are dropped.
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

// isContent reports whether the database refused what a row holds, so that
// writing it again is of no use: the classes "data exception", "integrity
// constraint violation" and "program limit exceeded" (PostgreSQL documentation,
// appendix A).
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
