package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// The end of a writer that was killed is recorded by another, once.
func TestLostWriter(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	gone := logFor(t, url, nil)
	s := sealerFor(t, url, l, func(c *SealerConfig) { c.Signer, c.LostAfter = newKey(t, ""), time.Millisecond })
	record(t, gone, decision("allow", 1))
	seal(t, s)
	kill(gone)
	conn := connection(t, db.URL(""))
	// Somebody who may not write calls his session by its name.
	if _, err := connection(t, db.URL(database.Auditor)).Exec(t.Context(), `SELECT set_config('application_name', $1, false)`, applicationName(gone.Writer())); err != nil {
		t.Fatal(err)
	}
	found := func() []string {
		return list(t, conn, `SELECT convert_from(record, 'UTF8')::json -> 'attributes' ->> 'writer' FROM audit.events WHERE kind = 'writer_lost' AND writer = $1`, l.Writer())
	}
	eventually(t, "it is recorded", func() bool { seal(t, s); return len(found()) > 0 })
	seal(t, s)
	if names := found(); len(names) != 1 || names[0] != gone.Writer() {
		t.Errorf("lost: %v", names)
	}
	seal(t, s)
	proven(t, verify(t, db, audit.Trust{}), 5, 0)
}
