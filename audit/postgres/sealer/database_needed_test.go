package sealer

import (
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestDatabaseWriterIsNeeded: without the trigger, a login that may record adds an export
// that never happened, under the name of the database itself.
func TestDatabaseWriterIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	thief, owner := audittest.Connect(t, db.URL(database.Writer)), audittest.Connect(t, db.URL(""))
	const forge = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), 'export', $1, 1 + coalesce(max(writer_sequence), 0), '{}' FROM audit.events WHERE writer = $1`
	audittest.ActAs(t, thief)
	if _, err := thief.Exec(t.Context(), forge, audit.DatabaseWriter); audittest.SQLState(err) != "42501" {
		t.Errorf("with the trigger: %v", err)
	}
	audittest.MustExec(t, owner, `DROP TRIGGER check_writer ON audit.events`)
	audittest.MustExec(t, thief, forge, audit.DatabaseWriter)
	if n := audittest.QueryValue[int](t, owner, `SELECT count(*) FROM audit.events WHERE kind = 'export' AND writer = 'database'`); n != 1 {
		t.Errorf("%d forged exports", n)
	}
}
