package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/webhook"
)

// Trace returns the outcome of the latest delivery of a receiver with this body. digest is
// the SHA-256 of the body in hexadecimal. The queue remembers a body for five minutes: the
// error wraps [webhook.ErrDeliveryNotFound] where no such delivery is committed.
func (q *Queue) Trace(ctx context.Context, receiver, digest string) (*webhook.DeliveryTrace, error) {
	if sum, err := hex.DecodeString(digest); err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("trace a delivery: %q is not a SHA-256 in hexadecimal", audit.Text(digest, 100))
	}
	var t webhook.DeliveryTrace
	err := q.pool.QueryRow(ctx, `SELECT d.decision_id::text, d.time, d.writer, d.writer_sequence, d.verdict, coalesce(d.reason, ''), coalesce(d.rule, ''),
		coalesce(d.message, ''), coalesce(d.revision, ''), coalesce(d.routes, ''), coalesce(d.unqueued, '')
		FROM webhook.seen s JOIN audit.webhook_deliveries d ON d.decision_id = s.delivery AND d.time > clock_timestamp() - interval '1 hour'
		WHERE s.receiver = $1 AND s.key = $2`, receiver, "body "+digest).Scan(
		&t.ID, &t.Recorded, &t.Writer, &t.WriterSequence, &t.Verdict, &t.Reason, &t.Rule, &t.Message, &t.Revision, &t.Routes, &t.Unqueued)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("trace a delivery: %w", webhook.ErrDeliveryNotFound)
	case err != nil:
		return nil, q.explain("trace a delivery", err)
	}
	stored := []webhook.StoredDelivery{{ID: t.ID}}
	if err := q.readTasks(ctx, stored); err != nil {
		return nil, err
	}
	results, err := q.results(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	for _, task := range stored[0].Tasks {
		traced := webhook.TracedTask{StoredTask: task}
		if r := results[task.Endpoint]; task.State == webhook.TaskDone {
			traced.Status, traced.Duration = r.Status, r.Duration
		}
		t.Tasks = append(t.Tasks, traced)
	}
	return &t, nil
}

// results returns how endpoints accepted a delivery; of several times, the latest.
func (q *Queue) results(ctx context.Context, delivery string) (map[string]webhook.TaskResult, error) {
	rows, err := q.pool.Query(ctx, `SELECT coalesce(x -> 'attributes' ->> 'endpoint', ''), coalesce(x -> 'attributes' ->> 'status', ''), coalesce(x ->> 'duration', '') FROM (
		SELECT convert_from(audit.record(e), 'UTF8')::json AS x, e.time FROM audit.events e WHERE e.decision_id = $1 AND e.kind = 'webhook_delivered') o ORDER BY o.time`, delivery)
	if err != nil {
		return nil, q.explain("trace a delivery", err)
	}
	results := map[string]webhook.TaskResult{}
	var endpoint, status, duration string
	_, err = pgx.ForEachRow(rows, []any{&endpoint, &status, &duration}, func() error {
		code, _ := strconv.Atoi(status) // 0: the event has none
		microseconds, _ := strconv.ParseInt(duration, 10, 64)
		results[endpoint] = webhook.TaskResult{Status: code, Duration: time.Duration(microseconds) * time.Microsecond}
		return nil
	})
	if err != nil {
		return nil, q.explain("trace a delivery", err)
	}
	return results, nil
}
