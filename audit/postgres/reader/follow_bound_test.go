package reader

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestFollowerBoundIsNeeded: a follower that is stopped in the middle of an answer
// blocks no session: an answer fits the buffers of its connection. Without the bound
// its statement does not end, and retention cannot lock the table.
func TestFollowerBoundIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "")))
	for n := range 700 { // several times what the buffers of a socket hold
		e := audittest.Decision("deny", n)
		e.Message = strings.Repeat("x", 2000)
		audittest.Record(t, l, e)
	}
	audittest.Seal(t, s)
	owner := audittest.Connect(t, db.URL(""))
	bound := followSQL
	for _, part := range []string{"LIMIT 64", "WHERE place = 1 OR size <= 65536 "} {
		if strings.Count(bound, part) != 1 {
			t.Fatalf("the statement has no single %q: %s", part, bound)
		}
		bound = strings.Replace(bound, part, "", 1)
	}
	for _, c := range []struct {
		name, sql string
		blocks    bool
	}{{"with the bound", followSQL, false}, {"without the bound", bound, true}} {
		t.Run(c.name, func(t *testing.T) {
			stopped := stoppedReader(t, db.URL(database.Auditor), c.sql)
			backend := stopped.PgConn().PID()
			if c.blocks {
				audittest.Eventually(t, "the server waits for the reader", func() bool {
					return audittest.QueryValue[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'ClientWrite')`, backend)
				})
			} else {
				audittest.Eventually(t, "the statement ends", func() bool {
					return audittest.QueryValue[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'idle' AND backend_xmin IS NULL)`, backend)
				})
			}
			audittest.Record(t, l, audittest.Decision("deny", 1)) // writers are never blocked
			audittest.MustExec(t, owner, `BEGIN`)
			audittest.MustExec(t, owner, `SET LOCAL lock_timeout = '`+map[bool]string{true: "100ms", false: "60s"}[c.blocks]+`'`)
			_, err := owner.Exec(t.Context(), `LOCK TABLE audit.events IN ACCESS EXCLUSIVE MODE`)
			audittest.MustExec(t, owner, `ROLLBACK`)
			if blocked := audittest.SQLState(err) == "55P03"; blocked != c.blocks || err != nil && !blocked {
				t.Errorf("retention's lock: %v", err)
			}
		})
	}
}

// stoppedReader sends the follower's statement, reads one row and then nothing more.
func stoppedReader(t *testing.T, url, sql string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	// A connection that is closed in the middle of an answer ends the statement.
	t.Cleanup(func() { _ = conn.PgConn().Conn().Close(); _ = conn.Close(context.Background()) })
	rows, err := conn.Query(t.Context(), sql, int64(0))
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatalf("no row: %v", rows.Err())
	}
	return conn
}
