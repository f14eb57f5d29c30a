package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// TestNamedKeyInTheDatabase: a log that hands over to a key which signed nothing of
// it is not that key's, as a database and as an export (cases row 29).
func TestNamedKeyInTheDatabase(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	attacker, real := audittest.NewKey(t, "log.example/a"), audittest.NewKey(t, "log.example/a")
	s := sealertest.Open(t, url, l, sealertest.WithKey(attacker))
	audittest.Seal(t, s)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	handover, err := attacker.HandOver(real, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	audittest.Record(t, l, handover)
	if err := s.Seal(t.Context()); !errors.Is(err, auditsealer.ErrNoKey) { // it has signed the hand-over
		t.Fatal(err)
	}
	audittest.CheckReport(t, readertest.Verify(t, db, audit.Trust{}), 4, 0)
	r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{real.Key()}})
	if r.Sound() || r.Vouched || !strings.Contains(fmt.Sprint(r.Findings), "is signed by "+string(attacker.Key())) {
		t.Errorf("the database: %+v", r)
	}
	reader, err := auditreader.Open(t.Context(), db.URL(database.Auditor))
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
