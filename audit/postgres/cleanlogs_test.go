package postgres

import (
	"errors"
	"flag"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

var (
	cleanLogs = flag.Int("clean", 4, "how many logs TestCleanLogs makes")
)

// gone lets a log go through what logs go through: a writer is killed while the
// database is unavailable from it, another replays what it left, a month is taken, and
// another key takes over. It returns the key that signs now.
func gone(t testing.TB, db *pgtest.DB, key *audit.Signer, place *shelf) *audit.Signer {
	t.Helper()
	folder, url := t.TempDir(), db.URL(database.Writer)
	killed := logFor(t, url, func(c *Config) { c.Journal, c.Spool, c.Log = folder, true, nil })
	record(t, killed, decision("allow", 1))
	kill(killed)
	j := &journal{folder: folder, writer: killed.Writer(), spool: true, maxBytes: 1 << 20, maxAge: time.Hour}
	if err := j.append(rowsOf(killed.Writer(), 3, 1+rand.IntN(20)), time.Now()); err != nil {
		t.Fatal(err)
	}
	j.close()
	next := logFor(t, url, func(c *Config) { c.Journal, c.Log = folder, nil })
	s := sealerFor(t, url, next, func(c *SealerConfig) {
		c.Signer, c.Publishers, c.LostAfter, c.Log = key, []Publisher{place}, time.Nanosecond, nil
	})
	seal(t, s)
	r, err := OpenRetention(t.Context(), db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Expire(t.Context(), oldMonth(), audit.DefaultKeepDays); err != nil {
		t.Fatal(err)
	}
	if rand.IntN(2) == 0 {
		seal(t, s)
	}
	following := newKey(t, key.Key().Origin())
	e, err := key.HandOver(following, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	record(t, next, e)
	if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) { // not any more
		t.Errorf("the key that was handed over from seals on: %v", err)
	}
	s = sealerFor(t, url, next, withKey(following, place))
	record(t, next, decision("deny", 2))
	for range 3 { // the killed writer's end is found meanwhile
		seal(t, s)
	}
	return following
}

// TestCleanLogs: no log is accused that nobody has touched, whatever it looks
// like, while it is written to and when it rests.
func TestCleanLogs(t *testing.T) {
	t.Parallel()
	for n := range *cleanLogs {
		// A test of its own, at whose end its connections are closed.
		t.Run(strconv.Itoa(n), testCleanLog)
	}
}

func testCleanLog(t *testing.T) {
	db := migrated(t)
	place := &shelf{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // an auditor who comes at any time
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
			}
			if r := verify(t, db, audit.Trust{Notes: place.all()}); !r.Sound() {
				t.Errorf("the log is accused while it is written to: %v", r.Findings)
			}
		}
	}()
	key := variedLog(t, db, partsWith(t, db, place), 1+rand.IntN(60), true)
	close(stop)
	<-done
	key = gone(t, db, key, place)
	r := verify(t, db, audit.Trust{Keys: []audit.Key{key.Key()}, Notes: place.all()})
	if !r.Sound() || r.Unsealed != 0 || r.Expired == 0 {
		t.Errorf("the log is accused: %v, %d not sealed, %d expired", r.Findings, r.Unsealed, r.Expired)
	}
}

// partsWith opens the parts of a log of this database that is published to a place.
func partsWith(t testing.TB, db *pgtest.DB, place *shelf) parts {
	url := db.URL(database.Writer)
	return parts{
		log: func() writerLog { return logFor(t, url, func(c *Config) { c.Log = nil }) },
		sealer: func(l writerLog, key *audit.Signer, now func() time.Time) sealing {
			return sealerFor(t, url, l, func(c *SealerConfig) {
				c.Signer, c.Publishers, c.Log, c.Now = key, []Publisher{place}, nil, now
			})
		},
	}
}
