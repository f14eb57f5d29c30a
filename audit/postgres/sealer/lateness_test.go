package sealer

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestBackdatedEvent: an event that is dated six weeks before it was sealed has a leaf
// and a checkpoint like any other, and is named with both times.
func TestBackdatedEvent(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.Seal(t, s)
	e := audittest.Decision("allow", 1)
	e.Time = time.Now().Add(-6 * 7 * 24 * time.Hour)
	audittest.Record(t, l, e)
	audittest.Record(t, l, audittest.Decision("allow", 2))
	audittest.Seal(t, s)
	r := readertest.Verify(t, db, audit.Trust{})
	if !r.Sound() || r.Lateness.Count != 1 || r.Lateness.Explained != 0 || r.Lateness.Max < 6*7*24*time.Hour || len(r.Lateness.Events) != 1 {
		t.Fatalf("%+v", r)
	}
	if got := r.Lateness.Events[0]; got.Writer != l.Writer() || got.FirstSequence != e.WriterSequence || got.Decisions != 1 || got.Size != r.Leaves {
		t.Errorf("%+v", got)
	}
	if r := readertest.Verify(t, db, audit.Trust{MaxLateness: 100 * 365 * 24 * time.Hour}); !r.Sound() || r.Lateness.Count != 0 {
		t.Errorf("something else names it: %+v", r)
	}
}

// TestWriterBehind: a writer whose clock is 26 hours behind is sealed, is not accused,
// and is called late.
func TestWriterBehind(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.Seal(t, s)
	const behind = "01a1fdf4-0000-7000-8000-0000000000bb"
	conn := audittest.Connect(t, db.URL(""))
	clock := func() time.Time { return time.Now().Add(-26 * time.Hour) }
	audittest.InsertEvent(t, conn, behind, 1, audit.KindWriterStarted, clock())
	audittest.InsertEvent(t, conn, behind, 2, audit.KindNameReassigned, clock())
	if r := readertest.Verify(t, db, audit.Trust{}); !r.Sound() || r.Unsealed != 2 || r.Lateness.Count != 2 {
		t.Errorf("before it is sealed: %+v", r)
	}
	sealed := func() int64 {
		return audittest.QueryValue[int64](t, audittest.Connect(t, db.URL(database.Auditor)), "SELECT count(*) FROM audit.leaves WHERE writer = '"+behind+"'")
	}
	rescanned := func() {
		s.writers.scanned = time.Time{} // as if the interval between two scans had passed
		audittest.Seal(t, s)
	}
	rescanned()
	if n := sealed(); n != 2 {
		t.Fatalf("%d of its events are sealed", n)
	}
	audittest.InsertEvent(t, conn, behind, 3, audit.KindNameReassigned, clock()) // all of it was sealed, and it continues
	rescanned()
	if n := sealed(); n != 3 {
		t.Fatalf("%d of its events are sealed", n)
	}
	r := readertest.Verify(t, db, audit.Trust{})
	if !r.Sound() || r.Lateness.Count != 3 || r.Lateness.Max < 26*time.Hour || r.Lateness.Max > 27*time.Hour {
		t.Errorf("%+v", r)
	}
}
