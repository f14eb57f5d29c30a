package writer

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// The end of a writer that was killed is recorded by another, once.
func TestLostWriter(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	gone := logFor(t, url, nil)
	s := sealertest.Open(t, url, l, func(c *auditsealer.Config) { c.Signer, c.LostAfter = audittest.NewKey(t, ""), time.Millisecond })
	audittest.Record(t, gone, audittest.Decision("allow", 1))
	audittest.Seal(t, s)
	kill(gone)
	conn := audittest.Connect(t, db.URL(""))
	// A login that may not write gives its session the writer's name.
	if _, err := audittest.Connect(t, db.URL(database.Auditor)).Exec(t.Context(), `SELECT set_config('application_name', $1, false)`, auditpg.ApplicationName(gone.Writer())); err != nil {
		t.Fatal(err)
	}
	found := func() []string {
		return audittest.QueryStrings(t, conn, `SELECT convert_from(record, 'UTF8')::json -> 'attributes' ->> 'writer' FROM audit.events WHERE kind = 'writer_lost' AND writer = $1`, l.Writer())
	}
	audittest.Eventually(t, "it is recorded", func() bool { audittest.Seal(t, s); return len(found()) > 0 })
	audittest.Seal(t, s)
	if names := found(); len(names) != 1 || names[0] != gone.Writer() {
		t.Errorf("lost: %v", names)
	}
	audittest.Seal(t, s)
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 5, 0)
}
