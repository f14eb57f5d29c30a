package database

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotReplicated is wrapped where a commit is on the primary's disk alone,
// although the server is configured to wait for a standby.
var ErrNotReplicated = errors.New("the database commits on its own disk only, and no synchronous standby confirms it: " +
	"start a standby that synchronous_standby_names names (pg_stat_replication lists those that are connected), or take it out of synchronous_standby_names and reload")

// errReadOnly has the SQLSTATE's meaning, before a statement fails with it.
var errReadOnly = errors.New("the server is a read-only standby or was made read-only; name the primary, or all servers with target_session_attrs=read-write")

// Confirm returns nil once all that other sessions have committed before is as
// durable as a commit of this session: on a synchronous standby, where the
// server has one. A transaction whose wait for the standby was cut short is
// visible, and not known to be anywhere but here (PostgreSQL documentation,
// "Planning for High Availability"); a commit behind it in the WAL waits for
// both. It waits for so long at most. It returns an error where the server is
// read-only.
func Confirm(ctx context.Context, conn *pgconn.PgConn, wait time.Duration) error {
	results, err := conn.Exec(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean, current_setting('synchronous_standby_names') <> ''`).ReadAll()
	if err != nil {
		return fmt.Errorf("ask whether the server is writable: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("ask whether the server is writable: no answer")
	}
	row := results[0].Rows[0]
	if string(row[0]) != "f" {
		return errReadOnly
	}
	if string(row[1]) != "t" {
		return nil
	}
	brief, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	// A message in the WAL, and nothing else, in a transaction of its own.
	if _, err = conn.Exec(brief, `SELECT pg_logical_emit_message(true, 'sallyport', '')`).ReadAll(); err != nil {
		if brief.Err() != nil {
			return fmt.Errorf("%w: it has waited for %s", ErrNotReplicated, wait)
		}
		return fmt.Errorf("wait for the synchronous standby: %w", err)
	}
	return nil
}

// Replication is the server's reports about a connection's commits. Its zero
// value is ready. It is safe for concurrent use.
type Replication struct{ cut atomic.Bool }

// Watch makes connections of this configuration report to r.
func (r *Replication) Watch(config *pgconn.Config) {
	before := config.OnNotice
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		// The message is translated; the name of the function is not (syncrep.c).
		if n.Routine == "SyncRepWaitForLSN" {
			r.cut.Store(true)
		}
		if before != nil {
			before(conn, n)
		}
	}
}

// Err returns an error that wraps [ErrNotReplicated] where the wait of a commit
// was cut short since the last call.
func (r *Replication) Err() error {
	if r.cut.Swap(false) {
		return fmt.Errorf("%w: the wait for it was canceled", ErrNotReplicated)
	}
	return nil
}
