package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/webhook"
)

// maxRejections is the number of attempts after which a delivery that its endpoint rejects
// becomes a dead letter. The first could meet a fault of the endpoint; more would delay the
// following deliveries of the repository.
const maxRejections = 3

var errLeaseExpired = errors.New("the lease could not be extended in time")

// carryOut sends a task and commits the result. until is when the task's lease ends.
func (w *worker) carryOut(t webhook.Task, until time.Time) {
	if cause := cmp.Or(unsendable(t, w.endpoint.Action), Overdue(t, w.endpoint.RetryFor, time.Now())); cause != "" {
		w.commitDead(t, cause)
		return
	}
	a, err := w.send(t, until)
	switch {
	case errors.Is(err, webhook.ErrLeaseLost):
		w.reportLostLease(t)
	case err != nil: // aborted: no fault of the endpoint
		w.d.log.Info("webhook delivery aborted", "endpoint", w.label(), "delivery", t.Delivery, "attempt", t.Attempt, "reason", err)
		w.commit(t, "release", func(ctx context.Context) error { return w.d.store.Release(ctx, t) })
	default:
		w.d.observer.Attempted(w.endpoint.Name, a.Outcome(), a.Duration)
		if !a.unneeded() {
			w.updateBreaker(a)
		}
		w.commitResult(t, a)
	}
}

// Unsendable returns why a task can never be forwarded; empty: it can.
func Unsendable(t webhook.Task) string { return unsendable(t, webhook.Forward) }

func unsendable(t webhook.Task, can webhook.Action) string {
	switch {
	case t.Action != can:
		return fmt.Sprintf("%q carries out the action %q, and not %q: correct the route", t.Endpoint, can, t.Action)
	case t.Body == nil:
		return "the body was deleted because of its age (webhooks.body_max_age)"
	}
	return ""
}

// send makes one attempt while it holds the lease. An error means that the attempt was
// aborted because of the lease or of a shutdown, and that its result is unknown.
func (w *worker) send(t webhook.Task, until time.Time) (Attempt, error) {
	ctx, cancel := context.WithCancelCause(w.d.sends)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		w.keepLease(ctx, cancel, t, until)
	}()
	a := w.endpoint.Send(ctx, t)
	var err error
	if ctx.Err() != nil && a.Outcome() != Delivered {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-kept
	return a, err
}

// keepLease extends the lease until ctx ends. If the lease is lost, or may be held by
// another instance now, the attempt ends: two instances must not send at the same time.
func (w *worker) keepLease(ctx context.Context, cancel context.CancelCauseFunc, t webhook.Task, until time.Time) {
	wait := w.d.lease / 3
	for {
		if !pause.For(ctx, min(wait, max(0, time.Until(until)))) {
			return
		}
		if !time.Now().Before(until) {
			cancel(errLeaseExpired)
			return
		}
		began := time.Now()
		extending, done := context.WithDeadline(ctx, until)
		err := w.d.store.Extend(extending, t, w.d.lease)
		done()
		switch {
		case err == nil:
			until, wait = began.Add(w.d.lease), w.d.lease/3
		case errors.Is(err, webhook.ErrLeaseLost):
			cancel(err)
			return
		default:
			wait = w.d.lease / 20
		}
	}
}

// commitResult commits the result of an attempt.
func (w *worker) commitResult(t webhook.Task, a Attempt) {
	outcome := a.Outcome()
	if outcome == Delivered {
		w.commit(t, "done", func(ctx context.Context) error {
			return w.d.store.Done(ctx, t, webhook.TaskResult{Status: a.Status, Duration: a.Duration})
		})
		return
	}
	now := time.Now()
	if outcome == Gone || outcome == Rejected && t.Attempt >= maxRejections || BudgetEnded(t, w.endpoint.RetryFor, now) {
		w.commitDead(t, a.Cause())
		return
	}
	at := NextAttempt(t, w.endpoint.RetryFor, now, max(w.d.timing.backoff(t.Attempt), min(a.RetryAfter, w.d.timing.MaxRetryAfter)))
	w.d.log.Warn("webhook delivery failed", "endpoint", w.label(), "delivery", t.Delivery, "attempt", t.Attempt, "reason", a.Cause(), "next", at)
	w.commit(t, "retry", func(ctx context.Context) error { return w.d.store.Retry(ctx, t, at, a.Cause()) })
}

func (w *worker) commitDead(t webhook.Task, cause string) {
	if w.commit(t, "dead letter", func(ctx context.Context) error { return w.d.store.Dead(ctx, t, cause) }) {
		w.d.observer.DeadLetter(w.endpoint.Name)
		w.d.log.Error("webhook delivery is a dead letter", "endpoint", w.label(), "delivery", t.Delivery, "attempt", t.Attempt, "reason", cause)
	}
}

// commit calls the store until the result is committed or the lease is lost, and reports
// whether it committed the result. While the database is unavailable, no other instance can claim
// the task; after that, the fence decides. After a shutdown it makes one more call.
func (w *worker) commit(t webhook.Task, operation string, call func(context.Context) error) bool {
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.d.sends), w.d.commitTimeout())
		err := call(ctx)
		cancel()
		switch {
		case err == nil:
			return true
		case errors.Is(err, webhook.ErrLeaseLost):
			// After an unknown outcome this usually means that the first call succeeded.
			if n == 0 {
				w.reportLostLease(t)
			}
			return n > 0
		case n == 0:
			w.d.log.Error("result of a webhook delivery not committed", "operation", operation, "endpoint", w.label(), "delivery", t.Delivery, "error", err)
		}
		if !pause.For(w.d.sends, jitter(exponential(w.d.timing.StoreBase, w.d.timing.StoreMax, n))) {
			return false
		}
	}
}

// commitTimeout bounds one call of the store, and is short once the instance has to end.
func (d *Dispatcher) commitTimeout() time.Duration {
	if d.sends.Err() != nil {
		return 2 * time.Second
	}
	return d.lease
}

func (w *worker) reportLostLease(t webhook.Task) {
	w.d.observer.LeaseLost(w.endpoint.Name)
	w.d.log.Warn("webhook delivery's lease was lost: the delivery may arrive twice", "endpoint", w.label(), "delivery", t.Delivery, "attempt", t.Attempt)
}
