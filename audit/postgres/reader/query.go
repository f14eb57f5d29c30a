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

// Querier queries the log. The role sallyport_auditor has sufficient privileges. A Querier is
// not safe for concurrent use.
type Querier struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	maxFew  int  // how many decisions are looked up by id at most
	minMany int  // from how many decisions on a limited query looks up those of close events
	alone   bool // if set, do not open a second connection for counts
}

// OpenQuerier connects to the database with this connection string, and checks the version of
// its schema. The caller must call [Querier.Close].
func OpenQuerier(ctx context.Context, databaseURL string) (*Querier, error) {
	connect, err := database.ParseConfig(databaseURL, "sallyport audit")
	if err != nil {
		return nil, fmt.Errorf("query the audit log: %w", err)
	}
	// No timeout: the caller bounds a query by its context, and may read rows slowly.
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0"})
	// If the caller's context ends, pgx cancels the statement.
	connect.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Second}
	}
	a := &Querier{connect: connect, maxFew: 2000, minMany: 50_000}
	if a.conn, err = database.Connect(ctx, connect); err != nil {
		return nil, fmt.Errorf("query the audit log: %w", err)
	}
	if err := database.CheckVersion(ctx, a.conn); err != nil {
		a.Close()
		return nil, fmt.Errorf("query the audit log: %w", err)
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

// Query calls row for each row that matches the filter, and returns their number. All rows
// are from one snapshot. They are streamed, so that memory does not grow with their number. A
// Row is valid only until row returns. If row returns an error, Query closes the connection
// and returns that error.
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
		// Read rows in the order of the index on time. A sort of a year's rows would first
		// write them all to temporary files.
		if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off"); err != nil {
			return 0, a.explain(ctx, err)
		}
	}
	sql, arguments := q.sql("")
	return a.rows(ctx, tx, q, sql, arguments, row)
}

// findFew adds the ids of the matching decisions to the filter if there are at most maxFew.
// Their rows are then looked up by id. If there are more, a scan in the order of time finds
// matches soon.
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
	if err != nil {
		return nil, err
	}
	found := *q
	if len(ids) <= a.maxFew {
		found.few = append([]string{}, ids...)
	} else if q.Limit > 0 {
		var n int
		sql, arguments := q.manySQL(a.minMany)
		if err := tx.QueryRow(ctx, sql, arguments...).Scan(&n); err != nil {
			return nil, err
		}
		found.many = n == a.minMany
	}
	return &found, nil
}

// begin opens a read-only transaction with one snapshot of the log.
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

// rows executes the statement of a filter and calls row for each row.
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

// abandon cancels the statement and closes the connection. Closing the rows instead would
// read all of them.
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
	return fmt.Errorf("query the audit log: %w", database.Explain("read", &a.connect.Config, err))
}

// IsLost reports whether an error means that the database is unavailable or the connection
// to it has ended, so that a new connection may succeed.
func IsLost(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// 08: connection exception. 40: transaction rollback. 53: insufficient resources.
		// 55: object not in prerequisite state, such as a lock. 57: operator intervention.
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

// Export describes an export from the log.
type Export struct {
	What       string // the command
	Parameters []byte // JSON
	Rows       int64
	Digest     [32]byte // SHA-256 of the exported bytes
	Tool       string
}

// RecordExport records an export as an event of the writer "database". When the event is
// durable, it returns the event's sequence number.
func (a *Querier) RecordExport(ctx context.Context, x Export) (sequence int64, err error) {
	if err := database.Durable(ctx, a.conn.PgConn()); err != nil {
		return 0, fmt.Errorf("record the export: %w", err)
	}
	err = a.conn.QueryRow(ctx, `SELECT audit.record_export($1::text, $2::text, $3::bigint, $4::bytea, $5::text)`,
		x.What, string(x.Parameters), x.Rows, x.Digest[:], x.Tool).Scan(&sequence)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42883" { // no such function
		return 0, errors.New("record the export: the database's schema is too old; run `sallyport migrate`")
	}
	if err != nil {
		return 0, fmt.Errorf("record the export: %w", database.Explain("write", &a.connect.Config, err))
	}
	return sequence, nil
}
