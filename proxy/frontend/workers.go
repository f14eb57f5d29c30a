package frontend

import (
	"slices"
	"sync"
	"time"
)

// maxIdleWorkers bounds the goroutines without a connection that a pool keeps. One that is
// idle ends after workerIdle at the earliest, and after twice that time at the latest.
const (
	maxIdleWorkers = 64
	workerIdle     = time.Second
)

// workers runs one function on goroutines that remain for its next calls. A decision grows the
// stack of its goroutine several times over, and a new goroutine would grow it again. The
// garbage collector shrinks the stacks that it finds unused. It is safe for concurrent use.
type workers[T any] struct {
	mu     sync.Mutex
	closed bool
	idle   []chan T // of the goroutines that wait for a call, the latest last
	// unused is how many of them, from the first on, have waited since the last reap.
	unused  int
	reaping bool // a timer will call reap
}

// start calls run on a goroutine that waits for a call, or on a new one. run is the same
// function in all calls.
func (w *workers[T]) start(run func(T), with T) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		next := w.idle[n-1]
		w.idle, w.unused = w.idle[:n-1], min(w.unused, n-1)
		w.mu.Unlock()
		next <- with // buffered
		return
	}
	w.mu.Unlock()
	go w.work(run, with)
}

// work calls run until there are enough goroutines that wait for a call.
func (w *workers[T]) work(run func(T), with T) {
	next := make(chan T, 1)
	for open := true; open; with, open = <-next {
		run(with)
		var none T
		with = none // an idle goroutine must not keep the connection in memory
		if !w.wait(next) {
			return
		}
	}
}

// wait adds a goroutine to those that wait for a call, and reports whether it did.
func (w *workers[T]) wait(next chan T) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) >= maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, next)
	if !w.reaping {
		w.reaping = true
		time.AfterFunc(workerIdle, w.reap)
	}
	return true
}

// reap ends the goroutines that were not used since the last reap, and runs again while
// there are others.
func (w *workers[T]) reap() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, next := range w.idle[:w.unused] {
		close(next)
	}
	w.idle = slices.Delete(w.idle, 0, w.unused)
	w.unused, w.reaping = len(w.idle), len(w.idle) > 0
	if w.reaping {
		time.AfterFunc(workerIdle, w.reap)
	}
}

// close ends the goroutines that wait for a call. The others end after theirs.
func (w *workers[T]) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle, w.unused = nil, 0
}
