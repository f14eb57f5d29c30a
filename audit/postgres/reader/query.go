package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sallyport/sallyport/internal/database"
)

// Querier asks the log. The role sallyport_auditor is enough. It is not safe for
// concurrent use.
type Querier struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	maxFew  int  // up to how many decisions are looked up one by one
	alone   bool // no second connection counts beside the first
}

// OpenQuerier connects to the database with this connection string.
func OpenQuerier(ctx context.Context, databaseURL string) (*Querier, error) {
	connect, err := database.ParseConfig(databaseURL, "sallyport audit")
	if err != nil {
		return nil, fmt.Errorf("ask the audit log: %w", err)
	}
	// A question about a year takes as long as it takes, and as its reader does.
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0"})
	// A caller that stops waiting cancels the statement.
	connect.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Second}
	}
	a := &Querier{connect: connect, maxFew: 2000}
	if a.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("ask the audit log: %w", err)
	}
	if err := database.CheckVersion(ctx, a.conn); err != nil {
		a.Close()
		return nil, fmt.Errorf("ask the audit log: %w", err)
	}
	return a, nil
}

// Close ends the connection.
func (a *Querier) Close() { closeConn(a.conn) }

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// Query gives the rows that answer a question, as they come from the database: what
// is held in memory does not grow with their number. All are of one moment. A row
// holds until row returns; an error of row ends the reading and is returned.
func (a *Querier) Query(ctx context.Context, q *Filter, row func(Row) error) (rows int64, err error) {
	tx, err := a.begin(ctx)
	if err != nil {
		return 0, a.explain(ctx, err)
	}
	defer a.end(tx)
	if q, err = a.findFew(ctx, tx, q); err != nil {
		return 0, a.explain(ctx, err)
	}
	if !q.selective() {
		// Rows come in the order of the index on time from the first one on. Sorting
		// a year would take its size in temporary files first.
		if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off"); err != nil {
			return 0, a.explain(ctx, err)
		}
	}
	sql, arguments := q.sql("")
	return a.rows(ctx, tx, q, sql, arguments, row)
}

// findFew returns the question with the decisions that it is about, where these are
// few: their rows are looked up. Where they are many, reading in the order of time
// finds them soon.
func (a *Querier) findFew(ctx context.Context, tx pgx.Tx, q *Filter) (*Filter, error) {
	sql, arguments := q.fewSQL(a.maxFew + 1)
	if sql == "" || q.selective() {
		return q, nil
	}
	rows, err := tx.Query(ctx, sql, arguments...)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		var id pgtype.UUID
		err := r.Scan(&id)
		return id.String(), err
	})
	if err != nil || len(ids) > a.maxFew {
		return q, err
	}
	found := *q
	found.few = append([]string{}, ids...)
	return &found, nil
}

// begin opens a read-only transaction that sees the log as it is now.
func (a *Querier) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := a.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1; SET LOCAL max_parallel_workers_per_gather = 0"); err != nil {
		a.end(tx)
		return nil, err
	}
	return tx, nil
}

func (a *Querier) end(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// rows runs the statement of a question and gives its rows.
func (a *Querier) rows(ctx context.Context, tx pgx.Tx, q *Filter, sql string, arguments []any, row func(Row) error) (n int64, err error) {
	result, err := tx.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, arguments...)...)
	if err != nil {
		return 0, a.explain(ctx, err)
	}
	defer result.Close()
	r := Row{columns: q.columns()}
	for result.Next() {
		if err := ctx.Err(); err != nil {
			a.abandon()
			return n, err
		}
		r.values = result.RawValues()
		if err := row(r); err != nil {
			a.abandon()
			return n, err
		}
		n++
	}
	return n, a.explain(ctx, result.Err())
}

// abandon ends the connection, and with it the rest of its answer: closing the
// rows would read them all.
func (a *Querier) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = a.conn.PgConn().CancelRequest(ctx)
	_ = a.conn.PgConn().Conn().Close()
}

func (a *Querier) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // the error of the query is only a consequence
	}
	return fmt.Errorf("ask the audit log: %w", database.Explain("read", &a.connect.Config, err))
}

// IsLost reports whether an error means that the database is unavailable or the connection
// to it has ended, so that a new connection may succeed.
func IsLost(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Class 57: an operator ends it; 53300: it is full; 08: the connection. 40
		// and 55: another was in the way.
		switch pg.Code[:2] {
		case "08", "40", "53", "55", "57":
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	for _, lost := range []error{database.ErrFormerPrimary, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, pgx.ErrTxClosed, pgconn.ErrConnClosed} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return pgconn.SafeToRetry(err)
}

// An Export is what was handed out of the log.
type Export struct {
	What       string // the command
	Parameters []byte // JSON
	Rows       int64
	Digest     [32]byte // SHA-256 of what was handed out
	Tool       string
}

// RecordExport records in the log that something was handed out of it. It returns
// the number of that event, whose writer is "database", when it is durable.
func (a *Querier) RecordExport(ctx context.Context, x Export) (sequence int64, err error) {
	if err := database.Durable(ctx, a.conn.PgConn()); err != nil {
		return 0, fmt.Errorf("record the export: %w", err)
	}
	err = a.conn.QueryRow(ctx, `SELECT audit.record_export($1::text, $2::text, $3::bigint, $4::bytea, $5::text)`,
		x.What, string(x.Parameters), x.Rows, x.Digest[:], x.Tool).Scan(&sequence)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42883" { // no such function
		return 0, errors.New("record the export: the database's schema cannot do that yet; run `sallyport migrate`")
	}
	if err != nil {
		return 0, fmt.Errorf("record the export: %w", database.Explain("write", &a.connect.Config, err))
	}
	return sequence, nil
}
