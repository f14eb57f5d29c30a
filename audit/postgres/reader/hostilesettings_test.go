package reader

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestHostileSettings: the settings of roles change nothing of what is recorded,
// sealed, verified and read back.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	db.SetHostile(t, database.Writer, database.Sealer, database.Auditor)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Sealer), l, sealertest.WithKey(audittest.NewKey(t, "")))
	p := audittest.StepOf(repositoryA, stepA)
	const refusals = 6
	for n := range refusals {
		audittest.RecordDenial(t, l, p, n, time.Now())
	}
	odd := audittest.Decision("allow", 1)
	odd.Message, odd.Host = `\'; DROP TABLE x; -- ü`+"\x00", `a\b.example`
	audittest.Record(t, l, odd)
	audittest.Seal(t, s)
	d := openSteps(t, db.URL(database.Writer))
	list, _, err := d.Step(t.Context(), p, 100)
	if err != nil || len(list) != refusals || list[0].Time.Location() != time.UTC {
		t.Errorf("%d denials, %v", len(list), err)
	}
	rows := answers(t, askerFor(t, db.URL(database.Auditor)), Filter{})
	if len(rows) < refusals+1 {
		t.Errorf("query answers %d rows", len(rows))
	}
	report := verify(t, db, audit.Trust{})
	audittest.CheckReport(t, report, report.Leaves, report.Unsealed)
	if report.Leaves < refusals+1 {
		t.Errorf("%d leaves", report.Leaves)
	}
}
