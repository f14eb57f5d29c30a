package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestBackdatedEvent: an event that is dated six weeks before it was sealed has a leaf
// and a checkpoint like any other, and is named with both times.
func TestBackdatedEvent(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(newKey(t, "")))
	seal(t, s)
	e := decision("allow", 1)
	e.Time = time.Now().Add(-6 * 7 * 24 * time.Hour)
	record(t, l, e)
	record(t, l, decision("allow", 2))
	seal(t, s)
	r := verify(t, db, audit.Trust{})
	if !r.Sound() || r.Lateness.Count != 1 || r.Lateness.Explained != 0 || r.Lateness.Most < 6*7*24*time.Hour || len(r.Lateness.Events) != 1 {
		t.Fatalf("%+v", r)
	}
	if got := r.Lateness.Events[0]; got.Writer != l.Writer() || got.FirstSequence != e.WriterSequence || got.Decisions != 1 || got.Size != r.Leaves {
		t.Errorf("%+v", got)
	}
	if r := verify(t, db, audit.Trust{MaxLateness: 100 * 365 * 24 * time.Hour}); !r.Sound() || r.Lateness.Count != 0 {
		t.Errorf("something else names it: %+v", r)
	}
}

// TestWriterBehind: a writer whose clock is 26 hours behind is sealed, is not accused,
// and is called late.
func TestWriterBehind(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(newKey(t, "")))
	seal(t, s)
	const behind = "01a1fdf4-0000-7000-8000-0000000000bb"
	conn := connection(t, db.URL(""))
	clock := func() time.Time { return time.Now().Add(-26 * time.Hour) }
	insert(t, conn, behind, 1, audit.KindWriterStarted, clock())
	insert(t, conn, behind, 2, audit.KindNameReassigned, clock())
	if r := verify(t, db, audit.Trust{}); !r.Sound() || r.Unsealed != 2 || r.Lateness.Count != 2 {
		t.Errorf("before it is sealed: %+v", r)
	}
	sealed := func() int64 {
		return ask[int64](t, connection(t, db.URL(database.Auditor)), "SELECT count(*) FROM audit.leaves WHERE writer = '"+behind+"'")
	}
	rescanned := func() {
		s.writers.scanned = time.Time{} // as if the interval between two scans had passed
		seal(t, s)
	}
	rescanned()
	if n := sealed(); n != 2 {
		t.Fatalf("%d of its events are sealed", n)
	}
	insert(t, conn, behind, 3, audit.KindNameReassigned, clock()) // all of it was sealed, and it continues
	rescanned()
	if n := sealed(); n != 3 {
		t.Fatalf("%d of its events are sealed", n)
	}
	r := verify(t, db, audit.Trust{})
	if !r.Sound() || r.Lateness.Count != 3 || r.Lateness.Most < 26*time.Hour || r.Lateness.Most > 27*time.Hour {
		t.Errorf("%+v", r)
	}
}
