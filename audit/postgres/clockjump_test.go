package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestClockJumps: the clock of the process that seals, or of one that records, jumps
// forwards and back. Nothing is called damage, nothing stops for good, and sealing
// names the clock where it is more than a day from the database's.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	place := &shelf{}
	key := newKey(t, "")
	s := sealerFor(t, db.URL(database.Writer), l, withKey(key, place))
	seal(t, s)
	for _, jump := range []time.Duration{0, 20 * time.Hour, 0, -20 * time.Hour, 0} {
		s.now = func() time.Time { return time.Now().Add(jump) }
		e := decision("deny", 1)
		e.Time = time.Now().Add(jump)
		record(t, l, e)
		seal(t, s)
		if n := s.Status().Size; n == 0 {
			t.Fatal("nothing is sealed")
		}
	}
	for _, jump := range []time.Duration{26 * time.Hour, -26 * time.Hour, 5 * 366 * 24 * time.Hour} {
		s.now = func() time.Time { return time.Now().Add(jump) }
		e := decision("deny", 1)
		e.Time = time.Now().Add(jump)
		record(t, l, e)
		if err := s.Seal(t.Context()); err == nil || !strings.Contains(err.Error(), "set the clock that is wrong") {
			t.Errorf("a clock that is off by %s: %v", jump, err)
		}
	}
	s.now = time.Now
	seal(t, s)
	size := s.Status().Size
	record(t, l, decision("deny", 2))
	seal(t, sealerFor(t, db.URL(database.Writer), l, withKey(key, place))) // another process
	eventually(t, "it is published", func() bool { return len(place.all()) > 0 })
	r := verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}, Notes: place.all()})
	if !r.Sound() || r.Leaves != size+1 {
		t.Errorf("%d leaves, %v", r.Leaves, r.Findings)
	}
	if r.Cadence.Backward != 2 || r.Lateness.Count != 1 || r.Lateness.Ahead != 2 {
		t.Errorf("the jumps are not listed: %+v, %+v", r.Cadence, r.Lateness)
	}
}
