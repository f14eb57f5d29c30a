package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/webhook"
)

// maxCause bounds the text of a task's error in bytes.
const maxCause = 1000

// maxClaims bounds the tasks of one call of Claim, which all are in memory.
const maxClaims = 100

// maxPause bounds the pause between two attempts. A time that is further in the future was
// written before the clock of the database was set back, and is ignored.
const maxPause = time.Hour

// Claim implements [webhook.Store].
func (q *Queue) Claim(ctx context.Context, endpoint string, n int, lease time.Duration) ([]webhook.Task, error) {
	if n <= 0 {
		return nil, nil
	}
	var tasks []webhook.Task
	err := q.transact(ctx, "claim webhook tasks", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, fence, attempt, action, stream, delivery_id::text, leased_at, leased_before FROM webhook.claim($1, $2, $3) ORDER BY id`, endpoint, min(n, maxClaims), lease)
		if err != nil {
			return err
		}
		tasks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (webhook.Task, error) {
			t, before := webhook.Task{Endpoint: endpoint}, (*time.Time)(nil)
			err := row.Scan(&t.ID, &t.Fence, &t.Attempt, &t.Action, &t.Stream, &t.Delivery, &t.Leased, &before)
			if before != nil {
				t.LeasedBefore = *before
			}
			return t, err
		})
		if err != nil || len(tasks) == 0 {
			return err
		}
		return readDeliveries(ctx, tx, tasks) // READ COMMITTED: this statement sees every delivery that claim saw
	})
	if err != nil {
		return nil, err
	}
	return tasks, nil
}

// readDeliveries fills tasks with their deliveries.
func readDeliveries(ctx context.Context, tx pgx.Tx, tasks []webhook.Task) error {
	byDelivery := make(map[string][]*webhook.Task)
	ids := make([]string, len(tasks))
	for i := range tasks {
		ids[i] = tasks[i].Delivery
		byDelivery[ids[i]] = append(byDelivery[ids[i]], &tasks[i])
	}
	rows, err := tx.Query(ctx, `SELECT id::text, received_at, receiver, event, repository, coalesce(request_id::text, ''), header::text, body FROM webhook.deliveries WHERE id = ANY ($1::uuid[])`, ids)
	if err != nil {
		return err
	}
	var (
		id, header string
		row        webhook.Task
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &row.Received, &row.Receiver, &row.Event, &row.Repository, &row.RequestID, &header, &row.Body}, func() error {
		fields, err := parseHeader([]byte(header))
		if err != nil {
			return fmt.Errorf("delivery %s: %w", id, err)
		}
		for _, t := range byDelivery[id] {
			t.Received, t.Receiver, t.Event, t.Repository, t.RequestID, t.Header, t.Body = row.Received, row.Receiver, row.Event, row.Repository, row.RequestID, fields.Clone(), row.Body
		}
		row.Body = nil
		return nil
	})
	return err
}

// parseHeader reads stored header fields.
func parseHeader(text []byte) (http.Header, error) {
	var h map[string][]string
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, errors.New("the stored header is not a JSON object of lists of text")
	}
	out := make(http.Header, len(h))
	for name, values := range h {
		for _, value := range values {
			out.Add(name, value)
		}
	}
	return out, nil
}

// Extend implements [webhook.Store].
func (q *Queue) Extend(ctx context.Context, t webhook.Task, lease time.Duration) error {
	return q.change(ctx, t, "extend the lease of a webhook task", `SELECT webhook.extend($1, $2, $3)`, lease)
}

// change runs a function that returns a row unless the lease was lost.
func (q *Queue) change(ctx context.Context, t webhook.Task, operation, sql string, args ...any) error {
	held := false
	err := q.transact(ctx, operation, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, append([]any{t.ID, t.Fence}, args...)...)
		held = tag.RowsAffected() > 0
		return err
	})
	if err == nil && !held {
		err = fmt.Errorf("webhook task %d: %w", t.ID, webhook.ErrLeaseLost)
	}
	return err
}

// Done implements [webhook.Store].
func (q *Queue) Done(ctx context.Context, t webhook.Task, r webhook.TaskResult) error {
	e := taskEvent(audit.KindWebhookDelivered, t)
	e.Duration = r.Duration
	if r.Status != 0 {
		attribute(e, "status", number(int64(r.Status)))
	}
	return q.end(ctx, t, e, webhook.TaskDone, nil, nil)
}

// Retry implements [webhook.Store].
func (q *Queue) Retry(ctx context.Context, t webhook.Task, at time.Time, cause string) error {
	cause = audit.Text(cause, maxCause)
	pause := fmt.Sprintf("%d microseconds", min(max(0, time.Until(at)), maxPause).Microseconds())
	var failed bool
	err := q.pool.QueryRow(ctx, `SELECT last_error IS NOT NULL FROM webhook.tasks WHERE id = $1`, t.ID).Scan(&failed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("webhook task %d: %w", t.ID, webhook.ErrLeaseLost)
	case err != nil:
		return q.explain("look for an earlier failure of a webhook task", err)
	case failed:
		return q.change(ctx, t, "end an attempt of a webhook task", `SELECT webhook.end_task($1, $2, 'pending', $3, $4::text::interval)`, cause, pause)
	}
	return q.end(ctx, t, failedEvent(t, cause, "false"), webhook.TaskPending, cause, pause)
}

// Release implements [webhook.Store].
func (q *Queue) Release(ctx context.Context, t webhook.Task) error {
	return q.change(ctx, t, "release a webhook task", `SELECT webhook.end_task($1, $2, 'pending', NULL, NULL)`)
}

// Dead implements [webhook.Store].
func (q *Queue) Dead(ctx context.Context, t webhook.Task, cause string) error {
	cause = audit.Text(cause, maxCause)
	return q.end(ctx, t, failedEvent(t, cause, "true"), webhook.TaskDead, cause, nil)
}

// end ends a lease in the transaction of an event.
func (q *Queue) end(ctx context.Context, t webhook.Task, e *audit.Event, state webhook.TaskState, cause, pause any) error {
	var held bool
	err := q.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM webhook.tasks t JOIN webhook.streams s ON s.stream = t.stream
		WHERE t.id = $1 AND t.fence = $2 AND t.state = 'leased' AND s.fence = $2)`, t.ID, t.Fence).Scan(&held)
	if err != nil {
		return q.explain("find the lease of a webhook task", err)
	}
	lost := fmt.Errorf("webhook task %d: %w", t.ID, webhook.ErrLeaseLost)
	if !held {
		return lost
	}
	kind := e.Kind
	err = q.recorder.RecordWith(ctx, e, audit.Companion{
		Statements: []audit.SQLStatement{{SQL: `SELECT webhook.end_task($1, $2, $3, $4, $5)`, Args: []any{t.ID, t.Fence, string(state), cause, pause}}},
		// After end_task, the task is done, dead, pending, or leased again with a larger fence.
		Applied: audit.SQLStatement{SQL: `SELECT FROM webhook.tasks WHERE id = $1 AND (fence = $2 AND state = $3 OR $3 = 'pending' AND fence > $2)`, Args: []any{t.ID, t.Fence, string(state)}},
		Void:    func(err error) *audit.Event { return voidEvent(t.Delivery, kind, t.Endpoint, causeLeaseLost, err) },
	})
	switch {
	case errors.Is(err, audit.ErrNoEffect):
		return lost
	case err != nil:
		return fmt.Errorf("end webhook task %d: %w", t.ID, err)
	}
	if state != webhook.TaskPending { // the next task of the stream can be claimed
		q.announce(notice{wakeChannel, t.Endpoint})
	}
	return nil
}

func taskEvent(kind audit.Kind, t webhook.Task) *audit.Event {
	e := &audit.Event{Kind: kind, DecisionID: t.Delivery, Action: actionWebhook, Source: audit.Source{Repository: "webhook " + t.Receiver, Step: t.Repository}}
	attribute(e, "endpoint", t.Endpoint)
	attribute(e, "action", string(t.Action))
	attribute(e, "attempts", number(int64(t.Attempt)))
	return e
}

func failedEvent(t webhook.Task, cause, final string) *audit.Event {
	e := taskEvent(audit.KindWebhookFailed, t)
	e.Message = cause
	attribute(e, "final", final)
	return e
}
