package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

// An instance confirms what it has read by the name of the session that it reads
// with: "sallyport revocations INSTANCE TIME", where TIME is the database's clock,
// in microseconds, before it began to read. Every login may see the names of
// sessions, nothing is written for it, and it ends with the session. Its pooled
// sessions show an instance that has no such session at the moment.
const (
	readerName = "sallyport revocations "
	poolName   = "sallyport identity "
)

const (
	confirmTimeout = 3 * time.Second // an instance reads once a second, and when it is notified
	confirmPoll    = 25 * time.Millisecond
)

// newInstance returns a name for a process.
func newInstance() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail (crypto/rand)
	return hex.EncodeToString(b[:])
}

// begin returns the database's clock, where the server may still write: what is
// read elsewhere is of the time before a failover.
func (w *watcher) begin(conn *pgconn.PgConn) (string, error) {
	if err := database.CheckWritable(context.Background(), conn); err != nil {
		return "", err
	}
	results, err := conn.Exec(context.Background(), `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errors.New("read the clock: no answer")
	}
	return string(results[0].Rows[0][0]), nil
}

// confirm shows other instances that everything which was committed before a time
// is in force here. The time has digits only: it is a bigint of the server.
func (w *watcher) confirm(conn *pgconn.PgConn, at string) error {
	_, err := conn.Exec(context.Background(), "SET application_name = '"+readerName+w.store.instance+" "+at+"'").ReadAll()
	return err
}

// UnconfirmedError is the error of a revocation that is written, and in force here,
// and that other connected instances have not confirmed.
type UnconfirmedError struct {
	Instances []string      // what the database has of each
	Waited    time.Duration // for them
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("it is written and in force on this instance, and not confirmed within %s by %d of the others: %s: end them, or see their logs; run the command again for a confirmation",
		e.Waited, len(e.Instances), strings.Join(e.Instances, "; "))
}

// unconfirmedSQL lists the other instances that have not begun to read since a
// time. Only logins that may record are instances.
const unconfirmedSQL = `
	SELECT 'instance ' || instance || ' of the login ' || min(usename) || coalesce(' at ' || min(host(client_addr)), '') || ', session ' || min(pid)
	FROM (SELECT usename, client_addr, pid, split_part(application_name, ' ', 3) AS instance,
	             CASE WHEN starts_with(application_name, $1) AND split_part(application_name, ' ', 4) ~ '^[0-9]{1,18}$'
	                  THEN split_part(application_name, ' ', 4)::bigint ELSE 0 END AS read
	      FROM pg_stat_activity
	      WHERE datname = current_database() AND (starts_with(application_name, $1) OR starts_with(application_name, $4))
	        AND pg_has_role(usesysid, 'sallyport_writer', 'MEMBER')) s
	WHERE instance <> $2
	GROUP BY instance HAVING max(read) < $3
	ORDER BY 1`

// awaitOthers returns nil once every other connected instance has read what is
// committed now.
func (s *Store) awaitOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.confirmTimeout)
	defer cancel()
	var committed int64
	var waiting []string
	for {
		err := s.retry(ctx, func() error {
			if committed == 0 {
				if err := s.pool.QueryRow(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&committed); err != nil {
					return err
				}
			}
			rows, err := s.pool.Query(ctx, unconfirmedSQL, readerName, s.instance, committed, poolName)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil {
				waiting = list
			}
			return err
		})
		if err == nil && len(waiting) == 0 {
			return nil
		}
		if !pause.For(ctx, confirmPoll) {
			if len(waiting) == 0 {
				waiting = []string{fmt.Sprintf("those of the database, which does not list them: %v", s.explain("confirm", err))}
			}
			return &UnconfirmedError{slices.Clip(waiting), s.confirmTimeout}
		}
	}
}
