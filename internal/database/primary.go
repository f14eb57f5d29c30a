package database

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// After a failover the former primary may live on, read-only, and with it every
// session there: what those read is of yesterday, without an error. Each session
// of ours is therefore dropped once its server refuses to write, and one of a pool
// also before it is given out by a server that would.

// checkedAt is when a connection was found to lead to the primary, in its custom data.
const checkedAt = "sallyport_checked_at"

// currentFor is how long a pool's connection counts as one to the primary.
const currentFor = time.Second

// writableSQL is false on a standby and on a primary that was made read-only.
const writableSQL = `SELECT NOT (pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only')::boolean)`

// CheckWritable returns an error for which [IsReadOnly] is true where the server
// of a session has become read-only.
func CheckWritable(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, writableSQL).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || string(results[0].Rows[0][0]) != "t" {
		return errReadOnly
	}
	return nil
}

// dropReadOnly makes connections of this configuration end with the error that
// the server is read-only. What is read on one afterwards would be stale.
func dropReadOnly(config *pgconn.Config) {
	before := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return !IsReadOnly(err) && (before == nil || before(conn, err))
	}
}

// checkTimeout bounds the check of a pool's connection.
const checkTimeout = time.Second

// isCurrent is false where a pool's connection is to be replaced: its server is
// read-only, or does not answer. A new connection is not checked, so that a
// standby can be read from: target_session_attrs of its configuration has selected it.
func isCurrent(ctx context.Context, conn *pgx.Conn) bool {
	now := time.Now()
	at, known := conn.PgConn().CustomData()[checkedAt].(time.Time)
	if known && now.Sub(at) < currentFor {
		return true
	}
	if known {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		if err := CheckWritable(ctx, conn.PgConn()); err != nil {
			return false // another connection is made, and has the error if there is one
		}
	}
	conn.PgConn().CustomData()[checkedAt] = now
	return true
}

// IsPrimary reports whether the server of a session may write, whatever the session
// itself is set to.
func IsPrimary(ctx context.Context, conn *pgx.Conn) (primary bool, err error) {
	err = conn.QueryRow(ctx, `SELECT NOT pg_catalog.pg_is_in_recovery()
		AND (SELECT reset_val = 'off' FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only')`).Scan(&primary)
	return primary, err
}

// ErrFormerPrimary is wrapped where a session leads to a server that was the
// primary when it began.
var ErrFormerPrimary = errors.New("the server was the primary and is not any more")

// IsReadOnly reports whether the server refused to write because it is a standby
// now, or was made read-only (SQLSTATE 25006): a session there is to be dropped.
func IsReadOnly(err error) bool {
	if errors.Is(err, errReadOnly) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "25006"
}
