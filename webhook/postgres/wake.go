package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	wakeChannel     = "sallyport_webhook"
	wakePoll        = time.Second
	wakeReadTimeout = 2 * time.Second
	maxWakeBackoff  = 500 * time.Millisecond
	maxWaiting      = 256 // names that the channel holds
	maxEndpointName = 200 // bytes
)

// Wake implements [webhook.Store]. While the database is unavailable no name arrives.
func (q *Queue) Wake(ctx context.Context) <-chan string {
	names := make(chan string, maxWaiting)
	go func() {
		defer close(names)
		for failures := 0; ; failures++ {
			began := time.Now()
			err := q.listen(ctx, names)
			if ctx.Err() != nil {
				return
			}
			if failures == 0 {
				q.log.WarnContext(ctx, "webhook queue: new tasks are not noticed", "error", err)
			}
			if time.Since(began) > 10*time.Second { // the session worked
				failures = 0
			}
			wait := min(maxWakeBackoff, 25*time.Millisecond<<min(failures, 5))
			if !pause.For(ctx, wait/2+rand.N(wait/2)) {
				return
			}
		}
	}()
	return names
}

// listen reports names over one connection until the connection fails, its server becomes
// read-only, or ctx ends.
func (q *Queue) listen(ctx context.Context, names chan<- string) error {
	config := q.connect.Copy()
	// Every login that may connect can notify. A name only causes a claim.
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { offer(names, n.Payload) }
	connecting, cancel := context.WithTimeout(ctx, wakeReadTimeout+time.Duration(len(config.Fallbacks))*config.ConnectTimeout)
	conn, err := database.Connect(connecting, config)
	cancel()
	if err != nil {
		return err
	}
	defer closeSession(conn)
	socket := conn.PgConn().Conn()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bound := func(d time.Duration) error {
		if err := socket.SetDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		return ctx.Err() // ctx may have ended before the deadline was set
	}
	if err := bound(wakeReadTimeout); err != nil {
		return err
	}
	if _, err := conn.Exec(context.Background(), "LISTEN "+wakeChannel); err != nil {
		return database.Explain("listen", &q.connect.Config, err)
	}
	for {
		if err := bound(wakeReadTimeout); err != nil {
			return err
		}
		if err := database.CheckWritable(context.Background(), conn.PgConn()); err != nil {
			return err
		}
		due, err := endpoints(context.Background(), conn)
		if err != nil {
			return database.Explain("read endpoints", &q.connect.Config, err)
		}
		for _, name := range due {
			offer(names, name)
		}
		if err := q.await(conn, time.Now().Add(q.poll), bound); err != nil {
			return err
		}
	}
}

// await waits for notifications until the time of the next poll.
func (q *Queue) await(conn *pgx.Conn, until time.Time, bound func(time.Duration) error) error {
	for {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if err := bound(left); err != nil {
			return err
		}
		if err := conn.PgConn().WaitForNotification(context.Background()); err != nil {
			if pgconn.Timeout(err) && !conn.IsClosed() {
				continue
			}
			return database.Explain("listen", &q.connect.Config, err)
		}
	}
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
