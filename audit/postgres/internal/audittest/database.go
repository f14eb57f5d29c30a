// Package audittest has what the tests of the audit log in PostgreSQL share: databases,
// events, and logs of many kinds.
package audittest

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func Migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

// Migrated returns a migrated database of the shared server.
func Migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", Migrate)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	return pgtest.Connect(t, url)
}

func QueryValue[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	return pgtest.Value[T](t, conn, sql, args...)
}

func QueryStrings(t testing.TB, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	return pgtest.Texts(t, conn, sql, args...)
}

// Eventually waits until a condition of another goroutine or process holds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	pgtest.Eventually(t, what, holds)
}

// ActAs lets a session of the writer's login add events, under the name that it
// returns.
func ActAs(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	name, secret := auditpg.NewWriter(time.Now())
	if _, err := conn.Exec(t.Context(), `SELECT set_config('sallyport.writer_secret', $1, false)`, secret); err != nil {
		t.Fatal(err)
	}
	return name
}

// Backdate lets checkpoints have any time, as if the log had been sealed then.
func Backdate(t testing.TB, admin *pgx.Conn) {
	t.Helper()
	if _, err := admin.Exec(t.Context(), `CREATE OR REPLACE FUNCTION audit.check_checkpoint_time(at timestamptz) RETURNS void LANGUAGE sql AS ''`); err != nil {
		t.Fatal(err)
	}
}

func SQLState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

func MustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// pair is a primary with a migrated database, and its standby "second".
type pair struct {
	Primary, Standby *pgtest.Server
	Db               *pgtest.DB
}

func StartPair(t testing.TB) pair {
	t.Helper()
	options := pgtest.Options{NoSync: true}
	p := pair{Primary: pgtest.Start(t, options)}
	p.Db = p.Primary.NewFrom(t, "sallyport", Migrate)
	p.Standby = p.Primary.Standby(t, "second", options)
	return p
}

// Url names both servers, and connects to the one that can be written to.
func (p pair) Url(role string) string {
	q := url.Values{
		"host": {p.Primary.SocketDirectory() + "," + p.Standby.SocketDirectory()}, "port": {"5432,5432"},
		"user": {role}, "target_session_attrs": {"read-write"},
	}
	return "postgres:///" + p.Db.Name + "?" + q.Encode()
}

// Second is the database on the standby.
func (p pair) Second() *pgtest.DB { return &pgtest.DB{Name: p.Db.Name, Server: p.Standby} }

// DisableTriggers is what a superuser can do about triggers and constraints.
func DisableTriggers(t testing.TB, admin *pgx.Conn) {
	t.Helper()
	tables := append(QueryStrings(t, admin, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.events'::regclass`), "audit.leaves", "audit.checkpoints", "audit.events")
	for _, table := range tables {
		if _, err := admin.Exec(t.Context(), "ALTER TABLE "+table+" DISABLE TRIGGER ALL"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.Exec(t.Context(), `ALTER TABLE audit.events DROP CONSTRAINT events_writer_sequence_positive, DROP CONSTRAINT events_record_follows;
		ALTER TABLE audit.leaves DROP CONSTRAINT leaves_index`); err != nil {
		t.Fatal(err)
	}
}

// Logger writes to the test's log.
func Logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(testWriter{t}, nil)) }
