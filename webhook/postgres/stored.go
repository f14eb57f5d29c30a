package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

const storedSQL = `SELECT d.id::text, d.received_at, d.receiver, d.kind, d.event, d.repository, coalesce(d.request_id::text, ''), d.attempt,
	host(d.client), encode(d.body_digest, 'hex'), coalesce(octet_length(d.body), 0), d.header::text FROM webhook.deliveries d `

// List returns deliveries, the latest first, without their header fields.
func (q *Queue) List(ctx context.Context, f webhook.DeliveryFilter) ([]webhook.StoredDelivery, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	list, err := q.read(ctx, `WHERE ($1 = '' OR d.receiver = $1) AND ($2 = '' OR d.repository = $2)
		AND d.received_at >= coalesce($3::timestamptz, '-infinity') AND d.received_at < coalesce($4::timestamptz, 'infinity')
		AND ($5 = '' AND $6 = '' OR EXISTS (SELECT FROM webhook.tasks t WHERE t.delivery_id = d.id AND ($5 = '' OR t.endpoint = $5) AND ($6 = '' OR t.state = $6)))
		ORDER BY d.received_at DESC, d.id DESC LIMIT $7`,
		f.Receiver, f.Repository, orNoTime(f.Since), orNoTime(f.Until), f.Endpoint, string(f.State), min(limit, 1000))
	for i := range list {
		list[i].Header = nil
	}
	return list, err
}

// DeadLetters returns the deliveries that were given up for an endpoint; "": for any.
func (q *Queue) DeadLetters(ctx context.Context, endpoint string, limit int) ([]webhook.StoredDelivery, error) {
	return q.List(ctx, webhook.DeliveryFilter{Endpoint: endpoint, State: webhook.TaskDead, Limit: limit})
}

// Show returns one delivery. The error wraps [webhook.ErrDeliveryNotFound] where there is none.
func (q *Queue) Show(ctx context.Context, id string) (*webhook.StoredDelivery, error) {
	canonical, ok := uuid.Parse(id)
	if !ok {
		return nil, fmt.Errorf("show delivery: %q is not a UUID", audit.Text(id, 100))
	}
	list, err := q.read(ctx, `WHERE d.id = $1`, canonical)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("show delivery %s: %w", canonical, webhook.ErrDeliveryNotFound)
	}
	return &list[0], nil
}

func orNoTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// read reads deliveries and their tasks.
func (q *Queue) read(ctx context.Context, where string, args ...any) ([]webhook.StoredDelivery, error) {
	rows, err := q.pool.Query(ctx, storedSQL+where, args...)
	if err != nil {
		return nil, q.explain("read webhook deliveries", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (webhook.StoredDelivery, error) {
		var (
			s      webhook.StoredDelivery
			client *string
			header string
		)
		if err := row.Scan(&s.ID, &s.Received, &s.Receiver, &s.Kind, &s.Event, &s.Repository, &s.RequestID, &s.Attempt, &client, &s.Digest, &s.BodyBytes, &header); err != nil {
			return s, err
		}
		if client != nil {
			s.Client, _ = netip.ParseAddr(*client) // none where it is not one
		}
		var err error
		s.Header, err = parseHeader([]byte(header))
		return s, err
	})
	if err != nil {
		return nil, q.explain("read webhook deliveries", err)
	}
	return list, q.readTasks(ctx, list)
}

func (q *Queue) readTasks(ctx context.Context, list []webhook.StoredDelivery) error {
	byID := make(map[string]*webhook.StoredDelivery, len(list))
	ids := make([]string, len(list))
	for i := range list {
		byID[list[i].ID], ids[i] = &list[i], list[i].ID
	}
	rows, err := q.pool.Query(ctx, `SELECT delivery_id::text, id, action, endpoint, state, attempts,
		CASE WHEN not_before > clock_timestamp() AND state IN ('pending', 'leased') THEN not_before END, created_at, finished_at, coalesce(last_error, '')
		FROM webhook.tasks WHERE delivery_id = ANY ($1::uuid[]) ORDER BY id`, ids)
	if err != nil {
		return q.explain("read webhook tasks", err)
	}
	var (
		of string
		t  webhook.StoredTask
	)
	_, err = pgx.ForEachRow(rows, []any{&of, &t.ID, &t.Action, &t.Endpoint, &t.State, &t.Attempts, &t.NotBefore, &t.Created, &t.Finished, &t.LastError}, func() error {
		byID[of].Tasks = append(byID[of].Tasks, t)
		t.NotBefore, t.Finished = nil, nil
		return nil
	})
	if err != nil {
		return q.explain("read webhook tasks", err)
	}
	return nil
}

// Body returns the body of a delivery as received. The error wraps
// [webhook.ErrDeliveryNotFound] or [webhook.ErrBodyDeleted] where it is not kept.
func (q *Queue) Body(ctx context.Context, id string) ([]byte, error) {
	canonical, ok := uuid.Parse(id)
	if !ok {
		return nil, fmt.Errorf("read the body of a delivery: %q is not a UUID", audit.Text(id, 100))
	}
	var body []byte
	err := q.pool.QueryRow(ctx, `SELECT body FROM webhook.deliveries WHERE id = $1`, canonical).Scan(&body)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("delivery %s: %w", canonical, webhook.ErrDeliveryNotFound)
	case err != nil:
		return nil, q.explain("read the body of a delivery", err)
	case body == nil:
		return nil, fmt.Errorf("delivery %s: %w", canonical, webhook.ErrBodyDeleted)
	}
	return body, nil
}

// Replay adds a task that sends a stored delivery to an endpoint again, behind the open tasks
// of its stream. The event of the replay is committed in the same transaction. The error
// wraps [webhook.ErrDeliveryNotFound] or [webhook.ErrBodyDeleted] if the delivery or its body
// is not kept.
func (q *Queue) Replay(ctx context.Context, id, endpoint string, by webhook.Replayer) error {
	stored, err := q.Show(ctx, id)
	if err != nil {
		return err
	}
	if stored.BodyBytes == 0 {
		return fmt.Errorf("replay delivery %s: %w", stored.ID, webhook.ErrBodyDeleted)
	}
	if endpoint == "" || len(endpoint) > maxEndpointName {
		return fmt.Errorf("replay delivery %s: %q is not the name of an endpoint", stored.ID, audit.Text(endpoint, 100))
	}
	var (
		action = webhook.Forward
		last   int64
	)
	for _, t := range stored.Tasks {
		if last = max(last, t.ID); t.Endpoint == endpoint {
			action = t.Action
		}
	}
	err = q.recorder.RecordWith(ctx, replayEvent(stored.ID, endpoint, by), audit.Companion{
		Statements: []audit.SQLStatement{{SQL: `SELECT webhook.add_task(id, repository, $2, $3) FROM webhook.deliveries WHERE id = $1 AND body IS NOT NULL`, Args: []any{stored.ID, string(action), endpoint}}},
		Applied:    audit.SQLStatement{SQL: `SELECT FROM webhook.tasks WHERE delivery_id = $1 AND endpoint = $2 AND id > $3`, Args: []any{stored.ID, endpoint, last}},
		Void: func(err error) *audit.Event {
			return voidEvent(stored.ID, audit.KindAdmin, endpoint, "body_deleted", err)
		},
	})
	switch {
	case errors.Is(err, audit.ErrNoEffect):
		return fmt.Errorf("replay delivery %s: %w", stored.ID, webhook.ErrBodyDeleted)
	case err != nil:
		return fmt.Errorf("replay delivery %s: %w", stored.ID, err)
	}
	q.announce(notice{wakeChannel, endpoint})
	return nil
}

func replayEvent(delivery, endpoint string, by webhook.Replayer) *audit.Event {
	e := &audit.Event{Kind: audit.KindAdmin, DecisionID: delivery, Action: "webhook_replayed", Message: by.Reason}
	attribute(e, "operator", by.Name)
	attribute(e, "operator_uid", number(int64(by.UID)))
	attribute(e, "operator_pid", number(int64(by.PID)))
	attribute(e, "endpoint", endpoint)
	return e
}
