package reader

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/stepapi"
)

const (
	// stepConnections is how many steps read at once. They wait for each other,
	// never for the committer, which has a connection of its own.
	stepConnections = 2
	stepTimeout     = 3 * time.Second
	// stepAge keeps the search to one or two partitions. A step may run for
	// twelve hours.
	stepAge = 48 * time.Hour
)

// Steps reads what the log has on one step. It is safe for concurrent use.
type Steps struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	forced  []string
}

// OpenSteps connects to the log's database, as a role that may read it. forced
// are the close reasons by which the proxy itself ends tunnels and requests. ctx
// bounds opening alone.
func OpenSteps(ctx context.Context, databaseURL string, forced []string) (*Steps, error) {
	pool, err := database.NewPool(ctx, databaseURL, "sallyport steps", stepConnections)
	if err != nil {
		return nil, fmt.Errorf("read a step's requests: %w", err)
	}
	return &Steps{pool, stepTimeout, forced}, nil
}

// Close ends the connections.
func (s *Steps) Close() { s.pool.Close() }

// Step returns what the database has on the principal's own step of the last two days: at
// most limit refusals and forced closes, then at most limit targets with allowed requests,
// the newest first in each of the two, and counts. It gives up after a few seconds: an error
// means that nothing is known, and is for the log only.
//
// What waits in the journal is not found, nor is a close that is not among the latest 10,000
// of all steps, nor an allowed request that is not among the latest 5,000 of the repository.
func (s *Steps) Step(ctx context.Context, p *identity.Principal, limit int) (entries []stepapi.Entry, counts stepapi.Requests, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, counts, s.explain(err)
	}
	defer conn.Release()
	step := []any{p.Step.UUID, time.Now().Add(-stepAge), p.Workspace.UUID, p.Repository.UUID, p.Issuer}
	for _, q := range []struct {
		sql       string
		arguments []any
	}{
		{stepSQL, append(slices.Clone(step), s.forced, limit)},
		{allowedSQL, append(slices.Clone(step), limit)},
	} {
		rows, err := conn.Query(ctx, q.sql, q.arguments...)
		if err != nil {
			return nil, counts, s.explain(err)
		}
		list, err := pgx.CollectRows(rows, scanStepEntry)
		if err != nil {
			return nil, counts, s.explain(err)
		}
		entries = append(entries, list...)
	}
	err = conn.QueryRow(ctx, countsSQL, append(step, s.forced)...).
		Scan(&counts.Allowed, &counts.WouldDeny, &counts.Denied, &counts.Closed, &counts.WouldClose, &counts.AtLeast)
	return entries, counts, s.explain(err)
}

func scanStepEntry(row pgx.CollectableRow) (stepapi.Entry, error) {
	var e stepapi.Entry
	var id, action, host, raw, reason, rule, message, closed pgtype.Text
	var port, status pgtype.Int4
	var sent, received, repeats pgtype.Int8
	err := row.Scan(&e.Kind, &e.Time, &id, &action, &host, &port, &raw, &reason, &rule, &message, &status, &closed, &sent, &received, &repeats)
	e.Time = e.Time.UTC()
	e.DecisionID, e.Action, e.Target = id.String, action.String, raw.String
	if host.String != "" {
		e.Target = net.JoinHostPort(host.String, strconv.Itoa(int(port.Int32)))
	}
	e.Reason, e.Rule, e.Message, e.CloseReason = reason.String, rule.String, message.String, closed.String
	e.Status, e.BytesSent, e.BytesReceived, e.Repeats = int(status.Int32), sent.Int64, received.Int64, repeats.Int64
	return e, err
}

func (s *Steps) explain(err error) error {
	return database.Explain("read a step's requests", &s.pool.Config().ConnConfig.Config, err)
}
