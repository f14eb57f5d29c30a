package reader

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
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

// Denials reads a step's own refusals and forced closes back from the log. It is safe for
// concurrent use.
type Denials struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	forced  []string
}

// OpenDenials connects to the log's database, as a role that may read it. forced
// are the close reasons by which the proxy itself ends tunnels and requests. ctx
// bounds opening alone.
func OpenDenials(ctx context.Context, databaseURL string, forced []string) (*Denials, error) {
	pool, err := database.NewPool(ctx, databaseURL, "sallyport denials", denialsConnections)
	if err != nil {
		return nil, fmt.Errorf("read denials: %w", err)
	}
	return &Denials{pool, denialsTimeout, forced}, nil
}

// Close ends the connections.
func (d *Denials) Close() { d.pool.Close() }

// The issuer, workspace and repository stand beside the step's UUID although
// that is unique: who could give a step another's UUID still sees nothing.
//
// The end of a tunnel has no step: the latest forced ends of all steps are read
// from an index that has few, and those of this step are kept. Counts of repeats are
// chosen as in audit.repeated_refusals.
const denialsSQL = `
WITH refused AS (
    SELECT time, decision_id, action, host, port, target_raw, reason, rule, message, status, NULL AS close_reason
      FROM audit.events
     WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'decision' AND time > $2
       AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5
     ORDER BY time DESC LIMIT $6
), ended AS (
    SELECT time, decision_id, rule, message, close_reason
      FROM audit.events
     WHERE kind IN ('tunnel_closed', 'request_closed') AND time > $2 AND close_reason = ANY($7)
       AND close_reason NOT IN ('finished', 'client_closed', 'target_closed', 'client_error', 'target_error', 'http_request')
     ORDER BY time DESC LIMIT 10000
), closed AS (
    SELECT e.time, e.decision_id, d.action, d.host, d.port, d.target_raw, NULL AS reason, coalesce(e.rule, d.rule) AS rule, e.message, NULL::integer AS status, e.close_reason
      FROM ended e
      JOIN audit.events d ON d.decision_id = e.decision_id AND d.kind = 'decision' AND d.time > $2 - interval '1 day'
     WHERE d.step_uuid = $1 AND d.workspace_uuid = $3 AND d.repository_uuid = $4 AND d.issuer = $5
     ORDER BY e.time DESC LIMIT $6
), repeats AS (
    SELECT c.decision_id, sum((c.attributes ->> 'count')::bigint)::bigint AS count
      FROM (SELECT DISTINCT ON (e.writer, e.decision_id, e.attributes ->> 'from') e.decision_id, e.attributes
              FROM (SELECT writer, writer_sequence, decision_id, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes
                      FROM audit.events
                     WHERE step_uuid = $1 AND verdict = 'deny' AND kind = 'refusals_repeated' AND time > $2
                       AND workspace_uuid = $3 AND repository_uuid = $4 AND issuer = $5) e
             ORDER BY e.writer, e.decision_id, e.attributes ->> 'from', e.writer_sequence DESC) c
     WHERE c.attributes ->> 'count' ~ '^[0-9]{1,15}$'
     GROUP BY c.decision_id
)
SELECT u.*, r.count
  FROM (SELECT * FROM refused UNION ALL SELECT * FROM closed ORDER BY time DESC LIMIT $6) u
  LEFT JOIN repeats r ON r.decision_id = u.decision_id AND u.close_reason IS NULL
 ORDER BY u.time DESC`

// Denials returns the latest refusals and forced closes of the principal's own
// step that are in the database, at most limit of the last two days, the newest
// first. An event with a CloseReason is a close, with the target of its decision.
// It gives up after a few seconds: an error means that nothing is known, and is
// for the log only. What waits in the journal is not found, nor is a close that is
// not among the latest 10,000 of all steps. How often a refusal was repeated without
// an event of its own is in its attribute [audit.Repeats].
func (d *Denials) Denials(ctx context.Context, p *identity.Principal, limit int) ([]audit.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	rows, err := d.pool.Query(ctx, denialsSQL, p.Step.UUID, time.Now().Add(-denialsAge), p.Workspace.UUID, p.Repository.UUID, p.Issuer, limit, d.forced)
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
	var e audit.Event
	var id, action, host, raw, reason, rule, message, closed pgtype.Text
	var port, status pgtype.Int4
	var repeats pgtype.Int8
	err := row.Scan(&e.Time, &id, &action, &host, &port, &raw, &reason, &rule, &message, &status, &closed, &repeats)
	if repeats.Int64 > 0 {
		e.Attributes = []audit.Attribute{{Name: audit.Repeats, Value: strconv.FormatInt(repeats.Int64, 10)}}
	}
	e.Time = e.Time.UTC()
	e.DecisionID, e.Action, e.Host, e.TargetRaw = id.String, action.String, host.String, raw.String
	e.Reason, e.Rule, e.Message, e.CloseReason = reason.String, rule.String, message.String, closed.String
	e.Port, e.Status = uint16(port.Int32), int(status.Int32)
	e.Kind, e.Verdict = audit.KindDecision, "deny"
	if e.CloseReason != "" {
		e.Kind, e.Verdict = audit.KindTunnelClosed, ""
	}
	return e, err
}

func (d *Denials) explain(err error) error {
	return database.Explain("read denials", &d.pool.Config().ConnConfig.Config, err)
}
