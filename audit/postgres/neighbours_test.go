package postgres

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/postgres"
	"github.com/sallyport/sallyport/migrations"
)

// takeDown runs the ways down of the migrations after a version.
func takeDown(t *testing.T, conn *pgx.Conn, version string) {
	t.Helper()
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(names)
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if number <= version {
			break
		}
		text, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(text), "-- +goose Down")
		if _, err := conn.Exec(t.Context(), "SET ROLE sallyport_owner;"+down); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := conn.Exec(t.Context(), `DELETE FROM sallyport.schema_version WHERE version_id = $1::text::int`, number); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOlderSchema: this program records, seals and verifies on the oldest schema
// that it says it works with, and goes on while that is brought up under it; what
// the older one cannot do says so.
func TestOlderSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if err := migrate(t.Context(), db.URL("")); err != nil {
		t.Fatal(err)
	}
	takeDown(t, connection(t, db.URL("")), "00004")
	if version, err := postgres.Version(t.Context(), connection(t, db.URL(postgres.Writer))); err != nil || version != migrations.Oldest {
		t.Fatal(version, err)
	}
	l := logFor(t, db.URL(postgres.Writer), nil)
	key := newKey(t, "")
	s := sealerFor(t, db.URL(postgres.Writer), l, withKey(key))
	for n := range 50 {
		record(t, l, decision([]string{"allow", "deny"}[n%2], n))
	}
	seal(t, s)
	seal(t, s)
	proven(t, verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}}), 52, 0)
	if r, err := OpenRetention(t.Context(), db.URL("")); err != nil {
		t.Error(err)
	} else {
		if _, err := r.Expire(t.Context(), month(s.now()), audit.DefaultKeepDays); err == nil || !strings.Contains(err.Error(), "run `sallyport migrate`") {
			t.Errorf("%v", err)
		}
		r.Close()
	}

	if err := migrate(t.Context(), db.URL("")); err != nil {
		t.Fatal(err)
	}
	record(t, l, decision("allow", 1))
	ask[int64](t, connection(t, db.URL(postgres.Auditor)), recordExport, "query", "{}", 1, nothing[:], "test")
	s.writers.scanned = s.now()
	seal(t, s)
	proven(t, verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}}), 54, 0)
	if reconnects := l.Stats().Reconnects; reconnects != 0 {
		t.Errorf("bringing the schema up cost %d connections", reconnects)
	}
}

// TestOlderProgram: what a program of the oldest schema says to the database of
// this one is understood. The statements are those that it was released with.
func TestOlderProgram(t *testing.T) {
	t.Parallel()
	conn := connection(t, database(t).URL(postgres.Writer))
	text, err := os.ReadFile("testdata/statements_of_4.sql")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for statement := range strings.SplitSeq(string(text), ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		count++
		if _, err := conn.Prepare(t.Context(), "", statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if count < 20 {
		t.Errorf("%d statements", count)
	}
}
