package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sallyport/sallyport/internal/database"
)

// ErrNoPolicy is returned, wrapped, where the log does not hold a policy.
var ErrNoPolicy = errors.New("the log does not hold this policy")

// History reads decisions and policies again. The role sallyport_auditor is
// enough. It is not safe for concurrent use.
type History struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
}

// OpenHistory connects to the database with this connection string.
func OpenHistory(ctx context.Context, databaseURL string) (*History, error) {
	connect, err := database.ParseConfig(databaseURL, "sallyport policy")
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	// A log of a year takes as long as it takes.
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0", "default_transaction_read_only": "on"})
	h := &History{connect: connect}
	if h.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	if err := database.CheckVersion(ctx, h.conn); err != nil {
		h.Close()
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return h, nil
}

// Close ends the connection.
func (h *History) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.conn.Close(ctx)
}

// Decisions gives the records of the decisions from since on and before until, in
// no order, as they come from the database: what is held in memory does not grow
// with their number. What f is given holds until it returns; an error of f ends
// the reading.
func (h *History) Decisions(ctx context.Context, since, until time.Time, f func(record []byte) error) error {
	return h.records(ctx, f, `SELECT audit.record(e) FROM audit.events e WHERE kind = 'decision' AND time >= $1 AND time < $2`, since, until)
}

// Deliveries gives the records of the decisions about webhook deliveries, as
// [History.Decisions] gives those about requests.
func (h *History) Deliveries(ctx context.Context, since, until time.Time, f func(record []byte) error) error {
	return h.records(ctx, f, `SELECT audit.record(e) FROM audit.events e WHERE kind = 'webhook_received' AND time >= $1 AND time < $2`, since, until)
}

// Continued gives the records of the tunnels that only report mode let continue, as
// [History.Decisions] gives those of decisions.
func (h *History) Continued(ctx context.Context, since, until time.Time, f func(record []byte) error) error {
	return h.records(ctx, f, `SELECT audit.record(e) FROM audit.events e WHERE kind = 'would_close' AND time >= $1 AND time < $2`, since, until)
}

// records gives the records that a query returns.
func (h *History) records(ctx context.Context, f func(record []byte) error, query string, parameters ...any) error {
	rows, err := h.conn.Query(ctx, query, parameters...)
	if err != nil {
		return h.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var record pgtype.DriverBytes // the bytes of the connection's buffer, not copied
		if err := rows.Scan(&record); err != nil {
			return h.explain(err)
		}
		if err := f(record); err != nil {
			return err
		}
	}
	return h.explain(rows.Err())
}

// Closes gives the decisions whose tunnel or request this log has closed with one
// of these reasons from since on and before until, in no order, and those that report mode
// let continue. An error of f ends
// the reading.
func (h *History) Closes(ctx context.Context, since, until time.Time, reasons []string, f func(decisionID, closeReason string) error) error {
	rows, err := h.conn.Query(ctx, `SELECT decision_id::text, close_reason FROM audit.events
		WHERE kind IN ('tunnel_closed', 'request_closed') AND time >= $1 AND time < $2 AND close_reason = ANY($3)
		  AND close_reason NOT IN ('finished', 'client_closed', 'target_closed', 'client_error', 'target_error', 'http_request')
		UNION ALL SELECT decision_id::text, close_reason FROM audit.events
		WHERE kind = 'would_close' AND decision_id IS NOT NULL AND time >= $1 AND time < $2 AND close_reason = ANY($3)`, since, until, reasons)
	if err != nil {
		return h.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, reason string
		if err := rows.Scan(&id, &reason); err != nil {
			return h.explain(err)
		}
		if err := f(id, reason); err != nil {
			return err
		}
	}
	return h.explain(rows.Err())
}

// Decision gives the record of one decision, about a request or a delivery; nil where the log has none. The id
// has to be a UUID.
func (h *History) Decision(ctx context.Context, id string) ([]byte, error) {
	var record []byte
	err := h.conn.QueryRow(ctx, `SELECT audit.record(e) FROM audit.events e WHERE decision_id = $1::text::uuid AND kind IN ('decision', 'webhook_received')
		ORDER BY time, writer, writer_sequence LIMIT 1`, id).Scan(&record)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return record, h.explain(err)
}

// Policy gives the content of a policy by its digest: what an event calls revision.
func (h *History) Policy(ctx context.Context, digest string) ([]byte, error) {
	var content []byte
	err := h.conn.QueryRow(ctx, `SELECT content FROM audit.policies WHERE digest = $1`, digest).Scan(&content)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%w: %s", ErrNoPolicy, digest)
	}
	return content, h.explain(err)
}

// Repositories gives the full names of the repositories that were ever known by
// name, as they are called now, in their order.
func (h *History) Repositories(ctx context.Context) ([]string, error) {
	rows, err := h.conn.Query(ctx, `SELECT repository FROM identity.repositories WHERE valid_to IS NULL ORDER BY repository`)
	if err != nil {
		return nil, h.explain(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, h.explain(err)
}

func (h *History) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read the audit log: %w", database.Explain("read", &h.connect.Config, err))
}
