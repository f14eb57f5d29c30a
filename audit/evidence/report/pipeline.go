package report

import (
	"context"
	"runtime"
	"sync"
)

// BatchSize is how many decisions are prepared by one goroutine at a time.
const BatchSize = 256

// BatchBytes bounds what such a batch has, but for its last decision: a login that
// may record can make each of its events three megabytes, and a pack's lines are as
// long as its maker likes.
const BatchBytes = 4 << 20

// parcel is a batch on its way.
type parcel struct {
	make func() ([]Prepared, error)
	list []Prepared
	err  error
	done chan struct{}
}

// InOrder prepares batches beside one another, and gives what was made of them in
// their order. next is called by one goroutine; it returns nil after the last batch.
// What it returned runs in another. An error of either, or of use, ends it all.
func InOrder(ctx context.Context, next func() (func() ([]Prepared, error), error), use func(*Prepared) error) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	queue, order := make(chan *parcel), make(chan *parcel, 2*workers)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range workers {
		wg.Go(func() {
			for p := range queue {
				p.list, p.err = p.make()
				close(p.done)
			}
		})
	}
	wg.Go(func() {
		defer close(order)
		defer close(queue)
		enqueue(ctx, next, queue, order)
	})
	for p := range order {
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if p.err != nil {
			return p.err
		}
		for i := range p.list {
			if err := use(&p.list[i]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// enqueue sends each batch to the reader of order and to the workers. It returns after the
// last batch, after an error of next, which order has, and when the context is done.
func enqueue(ctx context.Context, next func() (func() ([]Prepared, error), error), queue, order chan<- *parcel) {
	for {
		work, err := next()
		if work == nil && err == nil {
			return
		}
		p := &parcel{make: work, err: err, done: make(chan struct{})}
		if err != nil {
			close(p.done)
		}
		if !send(ctx, order, p) || err != nil || !send(ctx, queue, p) {
			return
		}
	}
}

// send reports whether the parcel was received before the context was done.
func send(ctx context.Context, to chan<- *parcel, p *parcel) bool {
	select {
	case to <- p:
		return true
	case <-ctx.Done():
		return false
	}
}
