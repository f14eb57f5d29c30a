package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestNamedKeyInTheDatabase: a log that hands over to a key which signed nothing of
// it is not that key's, as a database and as an export (cases row 29).
func TestNamedKeyInTheDatabase(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	url := db.URL(database.Writer)
	l := logFor(t, url, nil)
	attacker, real := newKey(t, "log.example/a"), newKey(t, "log.example/a")
	s := sealerFor(t, url, l, withKey(attacker))
	seal(t, s)
	record(t, l, decision("allow", 1))
	handover, err := attacker.HandOver(real, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, handover)
	if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) { // it has signed the hand-over
		t.Fatal(err)
	}
	proven(t, verify(t, db, audit.Trust{}), 4, 0)
	r := verify(t, db, audit.Trust{Keys: []audit.Key{real.Key()}})
	if r.Sound() || r.Vouched || !strings.Contains(fmt.Sprint(r.Findings), "is signed by "+string(attacker.Key())) {
		t.Errorf("the database: %+v", r)
	}
	reader, err := OpenReader(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var export bytes.Buffer
	x := audit.NewExporter(&export)
	if err := errors.Join(reader.Walk(t.Context(), x, nil), x.Close()); err != nil {
		t.Fatal(err)
	}
	v, err := audit.NewVerification(audit.Trust{Keys: []audit.Key{real.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadExport(&export, nil); err != nil {
		t.Fatal(err)
	}
	if r := v.Report(); r.Sound() || r.Vouched || r.Leaves != 4 {
		t.Errorf("the export: %+v", r)
	}
}
