package dispatch

import (
	"context"
	"sync"
	"time"
)

// worker claims and sends the tasks of one endpoint.
type worker struct {
	d        *Dispatcher
	endpoint Endpoint
	slots    int           // tasks at the same time
	wake     chan struct{} // holds one signal

	mu        sync.Mutex
	breaker   breaker
	sending   int
	delivered time.Time
	cause     string
	failures  int // of the store, in succession
}

// label is the endpoint's name in the log.
func (w *worker) label() string {
	if w.endpoint.Label != nil {
		return w.endpoint.Label()
	}
	return w.endpoint.Name
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run claims tasks until ctx ends.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(w.claim(ctx))
	}
}

// claim claims tasks for the free slots and starts to send them. It returns when to claim
// again at the latest.
func (w *worker) claim(claiming context.Context) time.Duration {
	n, wait := w.free(time.Now())
	if n == 0 {
		return wait
	}
	// The database starts the lease later than this line: the lease does not end before until.
	until := time.Now().Add(w.d.lease)
	parent := w.d.sends
	if w.d.abortClaims {
		parent = claiming
	}
	ctx, cancel := context.WithTimeout(parent, w.d.lease)
	defer cancel()
	tasks, err := w.d.store.Claim(ctx, w.endpoint.Name, n, w.d.lease)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failures++
		if w.failures == 1 && claiming.Err() == nil {
			w.d.log.Error("webhook tasks not claimed", "endpoint", w.label(), "error", err)
		}
		return jitter(exponential(w.d.timing.StoreBase, w.d.timing.StoreMax, w.failures))
	}
	w.failures = 0
	for _, t := range tasks {
		w.sending++
		w.d.tasks.Go(func() {
			defer w.finished()
			w.carryOut(t, until)
		})
	}
	return w.d.timing.Poll
}

// free returns how many tasks may be claimed now, or how long to wait. A signal shortens
// the wait, and changes nothing about an open circuit.
func (w *worker) free(now time.Time) (n int, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.breaker.state(now) {
	case Open:
		return 0, w.breaker.until.Sub(now)
	case HalfOpen:
		if w.sending > 0 {
			return 0, w.d.timing.Poll
		}
		return 1, 0
	}
	return w.slots - w.sending, w.d.timing.Poll
}

func (w *worker) finished() {
	w.mu.Lock()
	w.sending--
	w.mu.Unlock()
	w.signal()
}

// updateBreaker records the result of an attempt in the circuit breaker.
func (w *worker) updateBreaker(a Attempt) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.breaker.state(now)
	if a.Outcome() == Failed {
		w.breaker.failed(now, a.RetryAfter)
		w.cause = a.Cause()
	} else {
		w.breaker.succeeded()
		w.delivered, w.cause = now, ""
	}
	after := w.breaker.state(now)
	switch {
	case before == Closed && after == Open:
		w.d.log.Warn("webhook endpoint failed: circuit opened", "endpoint", w.label(), "reason", w.cause)
	case before != Closed && after == Closed:
		w.d.log.Info("webhook endpoint recovered: circuit closed", "endpoint", w.label())
	}
}

func (w *worker) status() Status {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{Endpoint: w.endpoint.Name, Circuit: w.breaker.state(now), Sending: w.sending, Delivered: w.delivered, Cause: w.cause}
	if s.Circuit == Open {
		s.OpenUntil = w.breaker.until
	}
	return s
}
