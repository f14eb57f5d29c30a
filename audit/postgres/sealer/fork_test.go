package sealer

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// fallBack takes the database back to a size, events included: as a replica is that
// did not have the rest when it became the primary.
func fallBack(t testing.TB, db *pgtest.DB, size int) {
	t.Helper()
	admin := audittest.Connect(t, db.URL(""))
	if _, err := admin.Exec(t.Context(), `DO $$ DECLARE p regclass; BEGIN
			FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass UNION ALL SELECT 'audit.events'::regclass LOOP
				EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', p);
			END LOOP;
		END $$`); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), `DELETE FROM audit.events e WHERE NOT EXISTS (
		SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence AND l.index < $1)`, size); err != nil {
		t.Fatal(err)
	}
	rewind(t, admin, size)
}

// failover is a log that two instances sealed up to 13, of which one sealed further
// to 19 and published that. Then the database fell back to 13, and the other
// instance, which knows nothing of 19, sealed other events to 33.
type failover struct {
	db        *pgtest.DB
	a, b      *Sealer
	logA      *auditwriter.Log
	published *audittest.Shelf // A's place
}

func newFailover(t *testing.T, change func(a, b *Config)) *failover {
	t.Helper()
	f := &failover{db: audittest.Migrated(t), published: &audittest.Shelf{}}
	url := f.db.URL(database.Writer)
	key := audittest.NewKey(t, "log.example/a")
	f.logA = writertest.Open(t, url, nil)
	logB := writertest.Open(t, url, nil)
	var configA, configB Config
	withKey(key, f.published)(&configA)
	withKey(key)(&configB)
	if change != nil {
		change(&configA, &configB)
	}
	set := func(c Config) func(*Config) {
		return func(s *Config) {
			s.Signer, s.Publishers, s.CompareInterval = c.Signer, c.Publishers, c.CompareInterval
		}
	}
	f.a, f.b = sealerFor(t, url, f.logA, set(configA)), sealerFor(t, url, logB, set(configB))
	fill := func(s *Sealer, l *auditwriter.Log, size int64) {
		t.Helper()
		for n := 0; s.Status().Size < size; n++ {
			audittest.Record(t, l, audittest.Decision("allow", n))
			audittest.Seal(t, s)
		}
	}
	fill(f.a, f.logA, 13)
	audittest.Seal(t, f.b) // it has seen 13
	fill(f.a, f.logA, 19)
	audittest.Eventually(t, "19 is published", func() bool { return f.a.Status().Places[0].Size == 19 })
	fallBack(t, f.db, 13)
	if configB.Publishers == nil {
		fill(f.b, logB, 33)
	}
	return f
}

// forks counts the forks that are recorded.
func (f *failover) forks(t testing.TB) int {
	t.Helper()
	return audittest.QueryValue[int](t, audittest.Connect(t, f.db.URL("")), `SELECT count(*)::int FROM audit.events WHERE kind = 'log_forked'
		AND (convert_from(record, 'UTF8')::json -> 'attributes' ->> 'published_size')::int BETWEEN 14 AND 19`)
}

// TestForkStopsSealing: an instance whose published checkpoint the database does not
// have any more seals nothing, however large the log is that another sealed since,
// and stays so, also after a restart.
func TestForkStopsSealing(t *testing.T) {
	t.Parallel()
	f := newFailover(t, nil)
	if size := f.b.Status().Size; size != 33 {
		t.Fatalf("the other branch has %d", size)
	}
	for range 3 {
		if err := f.a.Seal(t.Context()); !errors.Is(err, ErrForked) {
			t.Fatalf("it continues on the other branch: %v", err)
		}
	}
	if st := f.a.Status(); !errors.Is(st.Err, ErrForked) || st.Reason() != "forked" {
		t.Errorf("%+v", st)
	}
	if n := f.forks(t); n != 1 {
		t.Errorf("%d forks are on record", n)
	}
	if text := audittest.QueryValue[string](t, audittest.Connect(t, f.db.URL("")), `SELECT convert_from(record, 'UTF8')::json ->> 'attributes' FROM audit.events WHERE kind = 'log_forked'`); !strings.Contains(text, `"place":"this instance","published_size":"19","published_root":"`) || !strings.Contains(text, `"database_size":"33"`) {
		t.Error(text)
	}
	// Another process, which has seen nothing: the places know.
	again := sealerFor(t, f.db.URL(database.Writer), f.logA, withKey(f.a.config.Signer, f.published))
	if err := again.Seal(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("started again: %v", err)
	}
	// The checkpoints that were published find the fork as well.
	if r := readertest.Verify(t, f.db, audit.Trust{Notes: f.published.All()}); r.Counts[audit.DamageTree] == 0 {
		t.Errorf("%+v", r.Findings)
	}
	// An operator decides for the log that there is, and moves what was published away.
	f.published.Mu.Lock()
	f.published.Notes = nil
	f.published.Mu.Unlock()
	decided := sealerFor(t, f.db.URL(database.Writer), f.logA, withKey(f.a.config.Signer, f.published))
	audittest.Seal(t, decided)
	if n := audittest.QueryValue[int](t, audittest.Connect(t, f.db.URL("")), `SELECT count(*)::int FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE e.kind = 'writer_started'`); n < 2 {
		t.Errorf("%d writers are sealed", n)
	}
}

// TestForkIsNeeded: an instance that compares the size alone continues on the other
// branch without an error.
func TestForkIsNeeded(t *testing.T) {
	t.Parallel()
	f := newFailover(t, nil)
	f.a.compareNewest = func(_ context.Context, _ pgx.Tx, last latest) error {
		if last.Size < f.a.newest.Size {
			return ErrBehind
		}
		return nil
	}
	if err := f.a.Seal(t.Context()); err != nil {
		t.Errorf("the fork is found without the control as well: %v", err)
	}
}

// TestForkInASharedPlace: an instance that knows nothing of the other branch finds
// it in a place that both publish to: before it seals, and after it did.
func TestForkInASharedPlace(t *testing.T) {
	t.Parallel()
	shared := &audittest.Shelf{}
	f := newFailover(t, func(a, b *Config) {
		a.Publishers, b.Publishers = []Publisher{shared}, []Publisher{shared}
		b.CompareInterval = time.Nanosecond
	})
	if err := f.b.Seal(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("it continues behind the place's checkpoint: %v", err)
	}
	// It sealed before the place had 19.
	shared.Mu.Lock()
	late := shared.Notes
	shared.Notes = nil
	shared.Mu.Unlock()
	other := writertest.Open(t, f.db.URL(database.Writer), nil)
	for n := range 20 {
		audittest.Record(t, other, audittest.Decision("deny", n))
	}
	audittest.Seal(t, f.b)
	audittest.Eventually(t, "it is published", func() bool { return f.b.Status().Places[0].Size > 19 })
	shared.Mu.Lock()
	shared.Notes = append(shared.Notes, late...)
	shared.Mu.Unlock()
	if err := f.b.Seal(t.Context()); !errors.Is(err, ErrForked) {
		t.Errorf("a smaller checkpoint of the other branch is not compared: %v", err)
	}
	if n := f.forks(t); n != 1 {
		t.Errorf("%d forks are on record", n)
	}
}

// TestRootAtAThinnedSize: the tree at a size whose checkpoint is not kept any more is
// that of the leaves: thinning looks like no fork.
func TestRootAtAThinnedSize(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	key, place := audittest.NewKey(t, ""), &audittest.Shelf{}
	s := sealerFor(t, url, l, withKey(key, place))
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		audittest.Seal(t, s)
	}
	audittest.Eventually(t, "all is published", func() bool { return s.Status().Places[0].Size == 7 })
	admin := audittest.Connect(t, db.URL(""))
	if _, err := admin.Exec(t.Context(), `ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL; DELETE FROM audit.checkpoints WHERE size IN (4, 5, 6)`); err != nil {
		t.Fatal(err)
	}
	again := sealerFor(t, url, l, withKey(key, place))
	audittest.Record(t, l, audittest.Decision("allow", 9))
	audittest.Seal(t, again)
	if again.Status().Size != 8 {
		t.Errorf("%+v", again.Status())
	}
}
