package postgres

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/webhook"
)

// schemaNeeded is the migration that creates the schema webhook.
const schemaNeeded = 11

// Recorder is the audit log. Its methods are called concurrently.
type Recorder interface {
	// RecordWith makes an event durable together with its companion, in one transaction, or
	// returns an error; see [audit.Companion] for what each error means.
	RecordWith(ctx context.Context, e *audit.Event, with audit.Companion) error
}

// Config configures a queue. A zero field means its default.
type Config struct {
	URL string // the database, as the role sallyport_writer or a member of it
	// Recorder is the log on the same database. Nil: deliveries are neither accepted nor
	// ended nor replayed.
	Recorder    Recorder
	Log         *slog.Logger // default: none
	Connections int          // at most, beside that of Wake; default 8
}

// Queue is the queue of accepted deliveries, which all instances share. It is safe for
// concurrent use.
type Queue struct {
	recorder Recorder
	log      *slog.Logger
	pool     *pgxpool.Pool
	connect  *pgx.ConnConfig // of the connection of Wake
	poll     time.Duration   // of the connection of Wake; 0: its default
	announcer
}

// The queue is both sides of package webhook.
var (
	_ webhook.Queue = (*Queue)(nil)
	_ webhook.Store = (*Queue)(nil)
)

// Open connects to the database and checks the version of its schema. ctx bounds only Open
// itself. The caller must call [Queue.Close].
func Open(ctx context.Context, config Config) (*Queue, error) {
	q := &Queue{recorder: config.Recorder, log: cmp.Or(config.Log, slog.New(slog.DiscardHandler))}
	if err := q.open(ctx, config); err != nil {
		return nil, fmt.Errorf("webhook queue: %w", err)
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context, config Config) error {
	var err error
	if q.connect, err = database.ParseConfig(config.URL, "sallyport webhook wake"); err != nil {
		return err
	}
	if q.pool, err = database.NewPool(ctx, config.URL, "sallyport webhooks", cmp.Or(config.Connections, 8)); err != nil {
		return err
	}
	if err := checkSchema(ctx, q.pool); err != nil {
		q.pool.Close()
		return err
	}
	q.announcer.db = q.pool
	return nil
}

func checkSchema(ctx context.Context, db database.Querier) error {
	if err := database.CheckVersion(ctx, db); err != nil {
		return err
	}
	version, err := database.Version(ctx, db)
	if err == nil && version < schemaNeeded {
		err = fmt.Errorf("the database's schema is version %d, and webhooks need %d; run `sallyport migrate`", version, schemaNeeded)
	}
	return err
}

// Close closes the connections. No goroutine may use the queue any more.
func (q *Queue) Close() {
	q.announcer.close()
	q.pool.Close()
}

// explain adds a hint for the operator to an error of the database.
func (q *Queue) explain(operation string, err error) error {
	return fmt.Errorf("webhook queue: %w", database.Explain(operation, &q.connect.Config, err))
}

// transact runs one transaction whose commit waits for the disk. With an error its outcome is
// unknown.
func (q *Queue) transact(ctx context.Context, operation string, do func(pgx.Tx) error) error {
	conn, err := q.pool.Acquire(ctx)
	if err != nil {
		return q.explain(operation, err)
	}
	defer conn.Release()
	if err := database.Durable(ctx, conn.Conn().PgConn()); err != nil {
		return q.explain(operation, err)
	}
	if err := pgx.BeginFunc(ctx, conn, do); err != nil {
		return q.explain(operation, err)
	}
	return nil
}
