package writer

import (
	"errors"
	"flag"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

var (
	cleanLogs = flag.Int("clean", 4, "how many logs TestCleanLogs makes")
)

// gone lets a log go through what logs go through: a writer is killed while the
// database is unavailable from it, another replays what it left, a month is removed, and
// another key takes over. It returns the key that signs now.
func gone(t testing.TB, db *pgtest.DB, key *audit.Signer, place *audittest.Shelf) *audit.Signer {
	t.Helper()
	folder, url := t.TempDir(), db.URL(database.Writer)
	killed := logFor(t, url, func(c *Config) { c.Journal, c.Spool, c.Log = folder, true, nil })
	audittest.Record(t, killed, audittest.Decision("allow", 1))
	kill(killed)
	j := &journal{folder: folder, writer: killed.Writer(), spool: true, maxBytes: 1 << 20, maxAge: time.Hour}
	if err := j.append(rowsOf(killed.Writer(), 3, 1+rand.IntN(20)), time.Now()); err != nil {
		t.Fatal(err)
	}
	j.close()
	next := logFor(t, url, func(c *Config) { c.Journal, c.Log = folder, nil })
	s := sealertest.Open(t, url, next, func(c *auditsealer.Config) {
		c.Signer, c.Publishers, c.LostAfter, c.Log = key, []auditsealer.Publisher{place}, time.Nanosecond, nil
	})
	audittest.Seal(t, s)
	r, err := auditsealer.OpenRetention(t.Context(), db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Expire(t.Context(), audittest.OldMonth(), audit.DefaultKeepDays); err != nil {
		t.Fatal(err)
	}
	if rand.IntN(2) == 0 {
		audittest.Seal(t, s)
	}
	following := audittest.NewKey(t, key.Key().Origin())
	e, err := key.HandOver(following, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	audittest.Record(t, next, e)
	if err := s.Seal(t.Context()); !errors.Is(err, auditsealer.ErrNoKey) { // not any more
		t.Errorf("the key that was handed over from seals on: %v", err)
	}
	s = sealertest.Open(t, url, next, sealertest.WithKey(following, place))
	audittest.Record(t, next, audittest.Decision("deny", 2))
	for range 3 { // the killed writer's end is found meanwhile
		audittest.Seal(t, s)
	}
	return following
}

// TestCleanLogs: no log is accused that was not changed, whatever it looks
// like, while it is written to and when it rests.
func TestCleanLogs(t *testing.T) {
	t.Parallel()
	for n := range *cleanLogs {
		// A test of its own, at whose end its connections are closed.
		t.Run(strconv.Itoa(n), testCleanLog)
	}
}

func testCleanLog(t *testing.T) {
	db := audittest.Migrated(t)
	place := &audittest.Shelf{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // an auditor who comes at any time
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
			if r := readertest.Verify(t, db, audit.Trust{Notes: place.All()}); !r.Sound() {
				t.Errorf("the log is accused while it is written to: %v", r.Findings)
			}
		}
	}()
	key := audittest.VariedLog(t, db, partsWith(t, db, place), 1+rand.IntN(60), true)
	close(stop)
	<-done
	key = gone(t, db, key, place)
	r := readertest.Verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}, Notes: place.All()})
	if !r.Sound() || r.Unsealed != 0 || r.Expired == 0 {
		t.Errorf("the log is accused: %v, %d not sealed, %d expired", r.Findings, r.Unsealed, r.Expired)
	}
}

// partsWith opens the parts of a log of this database that is published to a place.
func partsWith(t testing.TB, db *pgtest.DB, place *audittest.Shelf) audittest.Parts {
	url := db.URL(database.Writer)
	return audittest.Parts{
		Log: func() audittest.Log { return logFor(t, url, func(c *Config) { c.Log = nil }) },
		Sealer: func(l audittest.Log, key *audit.Signer, now func() time.Time) audittest.Sealer {
			return sealertest.Open(t, url, l, func(c *auditsealer.Config) {
				c.Signer, c.Publishers, c.Log, c.Now = key, []auditsealer.Publisher{place}, nil, now
			})
		},
	}
}
