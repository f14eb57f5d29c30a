package sealer

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestHeartbeat: a checkpoint of the same size is signed and published once the
// latest is old, by one of two instances; a log without events stays verifiable, and
// its silence shows.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	f := newSealedLog(t)
	place := f.sealer.places[0].publisher.(*audittest.Shelf)
	other := sealerFor(t, f.db.URL(database.Writer), f.log, withKey(f.key))
	now := time.Now()
	f.sealer.now, other.now = func() time.Time { return now }, func() time.Time { return now }
	conn := audittest.Connect(t, f.db.URL(database.Auditor))
	count := func() int { return audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.checkpoints`) }
	pass := func(d time.Duration) {
		t.Helper()
		now = now.Add(d)
		audittest.Seal(t, f.sealer)
		audittest.Seal(t, other)
	}
	pass(0)
	begin := count()
	pass(audit.HeartbeatInterval - time.Minute)
	if n := count(); n != begin {
		t.Errorf("%d checkpoints before it is time, want %d", n, begin)
	}
	for n := range 3 {
		pass(audit.HeartbeatInterval + time.Second)
		pass(time.Second)
		if got := count(); got != begin+n+1 {
			t.Errorf("%d checkpoints after %d heartbeats, want %d", got, n+1, begin+n+1)
		}
	}
	audittest.Eventually(t, "they are published", func() bool {
		latest := audit.LatestCheckpoint(place.All())
		c, err := audit.ReadCheckpoint(latest)
		return err == nil && now.Sub(c.Time) < 2*time.Minute
	})
	r := readertest.Verify(t, f.db, audit.Trust{Notes: place.All()})
	audittest.CheckReport(t, r, 3, 0)
	if r.Cadence.Count != 0 || r.Anchored.Size != 3 || now.Sub(r.Cadence.Latest) > time.Minute {
		t.Errorf("%+v, anchored at %d", r.Cadence, r.Anchored.Size)
	}

	pass(4 * time.Hour) // no instance sealed
	if r = readertest.Verify(t, f.db, audit.Trust{}); r.Cadence.Count != 1 || !r.Sound() {
		t.Errorf("%d silences: %+v", r.Cadence.Count, r.Findings)
	}
	// An event is sealed as before.
	audittest.Record(t, f.log, audittest.Decision("allow", 2))
	pass(time.Second)
	audittest.CheckReport(t, readertest.Verify(t, f.db, audit.Trust{}), 4, 0)
}

// TestHeartbeatsOfClocksThatDisagree: two instances whose clocks are hours apart do
// not sign in turns, and verify reports the clock.
func TestHeartbeatsOfClocksThatDisagree(t *testing.T) {
	t.Parallel()
	f := newSealedLog(t)
	other := sealerFor(t, f.db.URL(database.Writer), f.log, withKey(f.key))
	now := time.Now()
	f.sealer.now, other.now = func() time.Time { return now }, func() time.Time { return now.Add(3 * time.Hour) }
	for range 20 {
		now = now.Add(5 * time.Second)
		audittest.Seal(t, f.sealer)
		audittest.Seal(t, other)
	}
	r := readertest.Verify(t, f.db, audit.Trust{})
	audittest.CheckReport(t, r, 3, 0)
	if n := r.Checkpoints; n > 5 {
		t.Errorf("%d checkpoints in 100 s", n)
	}
	for range 12 { // the one that is ahead has ended
		now = now.Add(5 * time.Minute)
		audittest.Seal(t, f.sealer)
	}
	if r = readertest.Verify(t, f.db, audit.Trust{}); r.Cadence.Backward == 0 || !r.Sound() {
		t.Errorf("%+v %v", r.Cadence, r.Findings)
	}
}

// TestHeartbeatIsNeeded: without heartbeats a log in which nothing happens is silent
// although an instance seals.
func TestHeartbeatIsNeeded(t *testing.T) {
	t.Parallel()
	f := newSealedLog(t)
	now := time.Now()
	f.sealer.now = func() time.Time { return now }
	f.sealer.config.HeartbeatInterval = 1000 * time.Hour
	for range 4 {
		now = now.Add(audit.HeartbeatInterval)
		audittest.Seal(t, f.sealer)
	}
	if r := readertest.Verify(t, f.db, audit.Trust{}); r.Cadence.SilentSince(now) == 0 {
		t.Errorf("not silent: %+v", r.Cadence)
	}
}
