package sealer

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestClockJumps: the clock of the process that seals, or of one that records, jumps
// forwards and back. Nothing is called damage, nothing stops for good, and sealing
// names the clock where it is more than a day from the database's.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	place := &audittest.Shelf{}
	key := audittest.NewKey(t, "")
	s := sealerFor(t, db.URL(database.Writer), l, withKey(key, place))
	audittest.Seal(t, s)
	for _, jump := range []time.Duration{0, 20 * time.Hour, 0, -20 * time.Hour, 0} {
		s.now = func() time.Time { return time.Now().Add(jump) }
		e := audittest.Decision("deny", 1)
		e.Time = time.Now().Add(jump)
		audittest.Record(t, l, e)
		audittest.Seal(t, s)
		if n := s.Status().Size; n == 0 {
			t.Fatal("nothing is sealed")
		}
	}
	for _, jump := range []time.Duration{26 * time.Hour, -26 * time.Hour, 5 * 366 * 24 * time.Hour} {
		s.now = func() time.Time { return time.Now().Add(jump) }
		e := audittest.Decision("deny", 1)
		e.Time = time.Now().Add(jump)
		audittest.Record(t, l, e)
		if err := s.Seal(t.Context()); err == nil || !strings.Contains(err.Error(), "set the clock that is wrong") {
			t.Errorf("a clock that is off by %s: %v", jump, err)
		}
	}
	s.now = time.Now
	audittest.Seal(t, s)
	size := s.Status().Size
	audittest.Record(t, l, audittest.Decision("deny", 2))
	audittest.Seal(t, sealerFor(t, db.URL(database.Writer), l, withKey(key, place))) // another process
	audittest.Eventually(t, "it is published", func() bool { return len(place.All()) > 0 })
	r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}, Notes: place.All()})
	if !r.Sound() || r.Leaves != size+1 {
		t.Errorf("%d leaves, %v", r.Leaves, r.Findings)
	}
	if r.Cadence.Backward != 2 || r.Lateness.Count != 1 || r.Lateness.Ahead != 2 {
		t.Errorf("the jumps are not listed: %+v, %+v", r.Cadence, r.Lateness)
	}
}
