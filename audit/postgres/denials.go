package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/postgres"
)

const (
	// denialsConnections is how many steps read at once. They wait for each other,
	// never for the committer, which has a connection of its own.
	denialsConnections = 2
	denialsTimeout     = 3 * time.Second
	// denialsAge keeps the search to one or two partitions. A step may run for
	// twelve hours.
	denialsAge = 48 * time.Hour
)

// Denials reads a step's own refusals back from the log. It is safe for
// concurrent use.
type Denials struct {
	pool    *pgxpool.Pool
	timeout time.Duration
}

// OpenDenials connects to the log's database, as a role that may read it. ctx
// bounds opening alone.
func OpenDenials(ctx context.Context, databaseURL string) (*Denials, error) {
	pool, err := postgres.NewPool(ctx, databaseURL, "sallyport denials", denialsConnections)
	if err != nil {
		return nil, fmt.Errorf("read denials: %w", err)
	}
	return &Denials{pool, denialsTimeout}, nil
}

// Close ends the connections.
func (d *Denials) Close() { d.pool.Close() }

// The issuer, workspace and repository stand beside the step's UUID although
// that is unique: who could give a step another's UUID still sees nothing.
const denialsSQL = `SELECT time, decision_id, action, host, port, target_raw, reason, rule, message, status
  FROM audit.events
 WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'decision' AND time > $2
   AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5
 ORDER BY time DESC LIMIT $6`

// Denials returns the latest refusals of the principal's own step that are in
// the database, at most limit of the last two days, the newest first. It gives
// up after a few seconds: an error means that nothing can be said, and is for
// the log only. What waits in the journal is not found.
func (d *Denials) Denials(ctx context.Context, p *identity.Principal, limit int) ([]audit.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	rows, err := d.pool.Query(ctx, denialsSQL, p.Step.UUID, time.Now().Add(-denialsAge), p.Workspace.UUID, p.Repository.UUID, p.Issuer, limit)
	if err != nil {
		return nil, d.explain(err)
	}
	list, err := pgx.CollectRows(rows, scanDenial)
	if err != nil {
		return nil, d.explain(err)
	}
	return list, nil
}

func scanDenial(row pgx.CollectableRow) (audit.Event, error) {
	e := audit.Event{Kind: audit.KindDecision, Verdict: "deny"}
	var id, action, host, raw, reason, rule, message pgtype.Text
	var port, status pgtype.Int4
	err := row.Scan(&e.Time, &id, &action, &host, &port, &raw, &reason, &rule, &message, &status)
	e.Time = e.Time.UTC()
	e.DecisionID, e.Action, e.Host, e.TargetRaw = id.String, action.String, host.String, raw.String
	e.Reason, e.Rule, e.Message = reason.String, rule.String, message.String
	e.Port, e.Status = uint16(port.Int32), int(status.Int32)
	return e, err
}

func (d *Denials) explain(err error) error {
	return postgres.Explain("read denials", &d.pool.Config().ConnConfig.Config, err)
}
