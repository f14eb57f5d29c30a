package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database/listen"
)

const (
	wakeChannel     = "sallyport_webhook"
	maxWaiting      = 256 // names that the channel holds
	maxEndpointName = 200 // bytes
)

// Wake implements [webhook.Store]. While the database is unavailable no name arrives.
func (q *Queue) Wake(ctx context.Context) <-chan string {
	names := make(chan string, maxWaiting)
	listener := listen.Listener{
		Config: q.connect, Channel: wakeChannel, Poll: q.poll, Log: q.log,
		Subject: "webhook tasks", Effect: "new ones wait until they can be",
		Notified: func(name string) { offer(names, name) }, // a name only causes a claim
	}
	go func() {
		defer close(names)
		listener.Run(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			due, err := endpoints(ctx, conn)
			for _, name := range due {
				offer(names, name)
			}
			return err
		})
	}()
	return names
}

// offer sends a name unless the channel is full.
func offer(names chan<- string, name string) {
	if name == "" || len(name) > maxEndpointName {
		return
	}
	select {
	case names <- name:
	default:
	}
}

// endpointsSQL reads the endpoints that have open tasks, one index entry for each.
const endpointsSQL = `WITH RECURSIVE e AS (
	(SELECT t.endpoint FROM webhook.tasks t WHERE t.state IN ('pending', 'leased') ORDER BY t.endpoint LIMIT 1)
	UNION ALL
	SELECT (SELECT t.endpoint FROM webhook.tasks t WHERE t.state IN ('pending', 'leased') AND t.endpoint > e.endpoint ORDER BY t.endpoint LIMIT 1) FROM e WHERE e.endpoint IS NOT NULL)
	SELECT endpoint FROM e WHERE endpoint IS NOT NULL LIMIT 10000`

// querier is a connection or a pool.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func endpoints(ctx context.Context, db querier) ([]string, error) {
	rows, err := db.Query(ctx, endpointsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Endpoints returns the names of the endpoints that have open tasks, in order. An endpoint
// that no instance is configured with any more keeps its tasks.
func (q *Queue) Endpoints(ctx context.Context) ([]string, error) {
	list, err := endpoints(ctx, q.pool)
	if err != nil {
		return nil, q.explain("read endpoints", err)
	}
	return list, nil
}
