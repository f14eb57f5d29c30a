package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// Stored is an accepted delivery in the queue.
type Stored struct {
	ID         string    `json:"id"` // UUID, the same as in the audit log
	Received   time.Time `json:"received_at"`
	Receiver   string    `json:"receiver"`
	Kind       string    `json:"kind"`
	Event      string    `json:"event"`
	Repository string    `json:"repository,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
	// Attempt is Bitbucket's number of the attempt; 0: none was given.
	Attempt   int          `json:"attempt,omitempty"`
	Client    netip.Addr   `json:"client,omitzero"`
	Digest    string       `json:"body_digest"` // SHA-256, hexadecimal
	BodyBytes int64        `json:"body_bytes"`  // 0: deleted because of its age
	Header    http.Header  `json:"header,omitempty"`
	Tasks     []StoredTask `json:"tasks"` // in the order of acceptance
}

// StoredTask is a task of a stored delivery.
type StoredTask struct {
	ID        int64             `json:"id"`
	Action    webhook.Action    `json:"action"`
	Endpoint  string            `json:"endpoint"`
	State     webhook.TaskState `json:"state"`
	Attempts  int               `json:"attempts"`
	NotBefore *time.Time        `json:"not_before,omitempty"` // of the next attempt; nil: now
	Created   time.Time         `json:"created_at"`
	Finished  *time.Time        `json:"finished_at,omitempty"` // nil: it has not ended
	LastError string            `json:"last_error,omitempty"`
}

// Filter selects deliveries. A zero field selects all.
type Filter struct {
	Receiver, Endpoint, Repository string
	State                          webhook.TaskState // of at least one task, of Endpoint if that is given
	Since, Until                   time.Time         // of the receipt: from Since on, before Until
	Limit                          int               // at most; 0: 100. The maximum is 1000.
}

const storedSQL = `SELECT d.id::text, d.received_at, d.receiver, d.kind, d.event, d.repository, coalesce(d.request_id::text, ''), d.attempt,
	host(d.client), encode(d.body_digest, 'hex'), coalesce(octet_length(d.body), 0), d.header::text FROM webhook.deliveries d `

// List returns deliveries, the latest first, without their header fields.
func (q *Queue) List(ctx context.Context, f Filter) ([]Stored, error) {
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
func (q *Queue) DeadLetters(ctx context.Context, endpoint string, limit int) ([]Stored, error) {
	return q.List(ctx, Filter{Endpoint: endpoint, State: webhook.TaskDead, Limit: limit})
}

// Show returns one delivery. The error wraps [ErrNotFound] where there is none.
func (q *Queue) Show(ctx context.Context, id string) (*Stored, error) {
	canonical, ok := uuid.Parse(id)
	if !ok {
		return nil, fmt.Errorf("show delivery: %q is not a UUID", audit.Text(id, 100))
	}
	list, err := q.read(ctx, `WHERE d.id = $1`, canonical)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("show delivery %s: %w", canonical, ErrNotFound)
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
func (q *Queue) read(ctx context.Context, where string, args ...any) ([]Stored, error) {
	rows, err := q.pool.Query(ctx, storedSQL+where, args...)
	if err != nil {
		return nil, q.explain("read webhook deliveries", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Stored, error) {
		var (
			s      Stored
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

func (q *Queue) readTasks(ctx context.Context, list []Stored) error {
	byID := make(map[string]*Stored, len(list))
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
		t  StoredTask
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

// Operator is who orders a replay, for the audit log.
type Operator struct{ Name, Reason string }

// Replay adds a task that sends a stored delivery to an endpoint again, behind the open tasks
// of its stream. The event of the replay is committed in the same transaction. The error
// wraps [ErrNotFound] if the delivery or its body was deleted.
func (q *Queue) Replay(ctx context.Context, id, endpoint string, by Operator) error {
	stored, err := q.Show(ctx, id)
	if err != nil {
		return err
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
	e := &audit.Event{Kind: audit.KindAdmin, DecisionID: stored.ID, Action: "webhook_replayed", Message: by.Reason}
	attribute(e, "operator", by.Name)
	attribute(e, "endpoint", endpoint)
	err = q.recorder.RecordWith(ctx, e, audit.Companion{
		Statements: []audit.SQLStatement{{SQL: `SELECT webhook.add_task(id, repository, $2, $3) FROM webhook.deliveries WHERE id = $1 AND body IS NOT NULL`, Args: []any{stored.ID, string(action), endpoint}}},
		Applied:    audit.SQLStatement{SQL: `SELECT FROM webhook.tasks WHERE delivery_id = $1 AND endpoint = $2 AND id > $3`, Args: []any{stored.ID, endpoint, last}},
		Void: func(err error) *audit.Event {
			return voidEvent(stored.ID, audit.KindAdmin, endpoint, "body_deleted", err)
		},
	})
	switch {
	case errors.Is(err, audit.ErrNoEffect):
		return fmt.Errorf("replay delivery %s: %w", stored.ID, ErrNotFound)
	case err != nil:
		return fmt.Errorf("replay delivery %s: %w", stored.ID, err)
	}
	return nil
}
