package writer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestLostTail: the end of what a process had recorded is missing when the next
// one starts: it records how much. Without the file that the first one left,
// the loss would not show, for no number is skipped.
func TestLostTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		lost, kept     bool // the tail is lost; the file is kept
		first, last, n int64
	}{{"nothing is lost", false, true, 0, 0, 0}, {"lost", true, true, 4, 7, 1}, {"lost, without the file", true, false, 0, 0, 0}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, folder := audittest.Migrated(t), t.TempDir()
			journal := func(c *Config) { c.Acknowledged = folder }
			l := logFor(t, db.URL(database.Writer), journal)
			for n := range 5 {
				audittest.Record(t, l, audittest.Decision("allow", n))
			}
			audittest.Close(t, l) // seven events, with its start and end
			if c.lost {
				forget(t, db, l, 3, true)
			}
			if !c.kept {
				if err := os.Remove(filepath.Join(folder, l.Writer()+tailSuffix)); err != nil {
					t.Fatal(err)
				}
			}
			next := logFor(t, db.URL(database.Writer), journal)
			audittest.Record(t, next, audittest.Decision("allow", 9))
			audittest.Record(t, next, audittest.Decision("allow", 9))
			conn := audittest.Connect(t, db.URL(""))
			if n := audittest.QueryValue[int64](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'events_lost'`); n != c.n {
				t.Fatalf("%d events_lost, want %d", n, c.n)
			}
			if left, _ := filepath.Glob(filepath.Join(folder, l.Writer()+"*")); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
			if c.n == 0 {
				return
			}
			r := readertest.Verify(t, db, audit.Trust{})
			if len(r.Lost) != 1 || r.Lost[0].Writer != l.Writer() || r.Lost[0].First != c.first || r.Lost[0].Last != c.last || r.Lost[0].By != next.Writer() {
				t.Errorf("%+v", r.Lost)
			}
			explained := audittest.QueryStrings(t, conn, `SELECT explained_by || ' ' || reported_by FROM audit.gaps WHERE writer = '`+l.Writer()+`'`)
			if want := string(audit.KindEventsLost) + " " + next.Writer(); len(explained) != 1 || explained[0] != want {
				t.Errorf("%q, want %q: the process that follows is the successor", explained, want)
			}
		})
	}
}

// TestStrangeTails: a file that is not one of ours, or whose process lives, shows
// nothing and stops nothing.
func TestStrangeTails(t *testing.T) {
	t.Parallel()
	db, folder := audittest.Migrated(t), t.TempDir()
	for name, content := range map[string]string{"empty": "", "garbage": "\x00{", "other": `{"writer":"w","sequence":3}`, "negative": `{"writer":"negative","sequence":-1}`} {
		if err := os.WriteFile(filepath.Join(folder, name+tailSuffix), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "link"+tailSuffix)); err != nil {
		t.Fatal(err)
	}
	journal := func(c *Config) { c.Acknowledged = folder }
	first := logFor(t, db.URL(database.Writer), journal)
	audittest.Record(t, first, audittest.Decision("allow", 1))
	second := logFor(t, db.URL(database.Writer), journal) // beside it, as in an upgrade
	audittest.Record(t, second, audittest.Decision("allow", 2))
	if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE kind = 'events_lost'`); n != 0 {
		t.Errorf("%d events_lost", n)
	}
}

// TestRestoredDatabase: a log that was restored into another database records that
// when the next process starts, and one that was not does not.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	for range 2 {
		l := logFor(t, db.URL(database.Writer), nil)
		audittest.Record(t, l, audittest.Decision("allow", 1))
		audittest.Close(t, l)
	}
	const changed = `SELECT count(*) FROM audit.events WHERE kind = 'admin' AND action = 'database_changed'`
	if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), changed); n != 0 {
		t.Errorf("%d database_changed on the same database", n)
	}
	restored := restoreInto(t, db)
	l := logFor(t, restored.URL(database.Writer), nil)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Close(t, l)
	conn := audittest.Connect(t, restored.URL(""))
	if n := audittest.QueryValue[int](t, conn, changed+` AND message LIKE 'another database of the same cluster%'`); n != 1 {
		t.Errorf("%d database_changed on the restored one", n)
	}
}

// restoreInto copies a database, as a dump that is restored.
func restoreInto(t *testing.T, db *pgtest.DB) *pgtest.DB {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, db.Server.URL("postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	restored := &pgtest.DB{Name: strings.ReplaceAll(db.Name, "t", "r"), Server: db.Server}
	sql := `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + db.Name + `'`
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+restored.Name+` TEMPLATE `+db.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := conn.Exec(ctx, `DROP DATABASE `+restored.Name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
		_ = conn.Close(ctx)
	})
	return restored
}
