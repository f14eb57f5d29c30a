package postgres

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/migrations"
)

// The down migration refuses to remove stored names; an empty schema is removed and
// created again, and the views on the log work all the time.
func TestMigrationDownAndUp(t *testing.T) {
	up, down := migration(t, "00003_identity.sql")
	upAfter, downBefore := migration(t, "00007_reconciliation.sql") // depends on it
	upLast, downFirst := migration(t, "00010_periods.sql")
	upAfter, downBefore = upAfter+upLast, downFirst+downBefore
	db := migrated(t)
	conn := pgtest.Connect(t, db.URL(""))
	run := func(sql string) error {
		_, err := conn.PgConn().Exec(t.Context(), "BEGIN; SET LOCAL ROLE sallyport_owner; "+sql+"; COMMIT").ReadAll()
		if err != nil {
			pgtest.Exec(t, conn, "ROLLBACK")
		}
		return err
	}
	h := instance(t, db.URL(database.Writer), 0)
	h.save(t, repository(payments, "acme/a", minutes(0)))
	if err := run(down); pgtest.SQLState(err) != "23001" {
		t.Errorf("a history of names was taken down: %v", err)
	}
	h.stop()

	empty := migrated(t)
	conn = pgtest.Connect(t, empty.URL(""))
	pgtest.Exec(t, conn, `GRANT CREATE ON DATABASE "`+empty.Name+`" TO sallyport_owner`) // which a copy of a database does not have
	for range 2 {
		if err := run(downBefore + down); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, conn, "SELECT build_number, creator FROM audit.decisions")
		pgtest.Exec(t, conn, "SELECT FROM audit.deployment_egress")
		if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'identity'"); n != 0 {
			t.Error("going down left the schema")
		}
		if err := run(up + upAfter); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, conn, "SELECT build_number, creator FROM audit.decisions")
}

// migration returns both ways of one.
func migration(t testing.TB, name string) (up, down string) {
	t.Helper()
	file, err := fs.ReadFile(migrations.Files, name)
	if err != nil {
		t.Fatal(err)
	}
	up, down, found := strings.Cut(string(file), "-- +goose Down")
	if !found {
		t.Fatalf("%s has no way down", name)
	}
	return up, down
}
