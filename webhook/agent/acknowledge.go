package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// operations are the operations on one lease.
var operations = map[string]func(ctx context.Context, s *Server, q *queue, t webhook.Task, r leaseRequest) error{
	"extend": extend,
	"release": func(ctx context.Context, s *Server, _ *queue, t webhook.Task, _ leaseRequest) error {
		return s.result(t, s.c.Store.Release(ctx, t))
	},
	"done":  done,
	"retry": retry,
	"dead":  dead,
}

var errLost = &refusal{http.StatusConflict, "the lease was lost: the acknowledgement changed nothing, and the delivery may be sent again"}

var errTooLong = &refusal{http.StatusConflict, "the lease is not extended: the time budget of the delivery has ended, and the attempt has lasted for an hour"}

// result returns the error of an operation.
func (s *Server) result(t webhook.Task, err error) error {
	if errors.Is(err, webhook.ErrLeaseLost) {
		s.observe(func(o dispatch.Observer) { o.LeaseLost(t.Endpoint) })
		return errLost
	}
	return err
}

// maxAttempt bounds one attempt once the time budget of its delivery has ended. An agent that
// extends its lease forever uses the budget up.
const maxAttempt = time.Hour

func extend(ctx context.Context, s *Server, q *queue, t webhook.Task, _ leaseRequest) error {
	now := time.Now()
	if !t.Leased.IsZero() && now.After(t.Leased.Add(maxAttempt)) && !now.Before(t.Received.Add(q.endpoint.RetryFor)) {
		return errTooLong
	}
	return s.result(t, s.c.Store.Extend(ctx, t, s.c.Lease))
}

func done(ctx context.Context, s *Server, _ *queue, t webhook.Task, r leaseRequest) error {
	took := time.Duration(r.DurationMS) * time.Millisecond
	if r.Status < 200 || r.Status > 299 || r.DurationMS < 0 || took > time.Hour {
		return &refusal{http.StatusBadRequest, "status is not from 200 to 299, or duration_ms is not from 0 to 3600000"}
	}
	err := s.result(t, s.c.Store.Done(ctx, t, webhook.TaskResult{Status: r.Status, Duration: took}))
	if err == nil {
		s.observe(func(o dispatch.Observer) { o.Attempted(t.Endpoint, dispatch.Delivered, took) })
	}
	return err
}

// retry ends a lease. The gateway keeps the time budget: after its end, the task is a dead
// letter.
func retry(ctx context.Context, s *Server, q *queue, t webhook.Task, r leaseRequest) error {
	after := time.Duration(r.AfterMS) * time.Millisecond
	if r.AfterMS < 0 || r.AfterMS > time.Hour.Milliseconds() {
		return &refusal{http.StatusBadRequest, "after_ms is not from 0 to 3600000"}
	}
	now := time.Now()
	if dispatch.BudgetEnded(t, q.endpoint.RetryFor, now) {
		return dead(ctx, s, q, t, r)
	}
	err := s.result(t, s.c.Store.Retry(ctx, t, dispatch.NextAttempt(t, q.endpoint.RetryFor, now, after), cause(r.Cause)))
	if err == nil {
		s.observe(func(o dispatch.Observer) { o.Attempted(t.Endpoint, dispatch.Failed, 0) })
	}
	return err
}

func dead(ctx context.Context, s *Server, _ *queue, t webhook.Task, r leaseRequest) error {
	err := s.result(t, s.c.Store.Dead(ctx, t, cause(r.Cause)))
	if err == nil {
		s.observe(func(o dispatch.Observer) { o.DeadLetter(t.Endpoint) })
		s.c.Log.Error("webhook delivery is a dead letter", "endpoint", t.Endpoint, "delivery", t.Delivery, "attempt", t.Attempt, "reason", cause(r.Cause))
	}
	return err
}

// cause makes an agent's text fit for a log, and bounds it.
func cause(text string) string {
	if text == "" {
		return "the agent gave no reason"
	}
	if !printable.IsClean(text) {
		text = printable.Quote(text)
	}
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "")
	}
	return "agent: " + text
}
