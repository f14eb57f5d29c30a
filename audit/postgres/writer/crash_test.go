package writer

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// A tally holds the ids of the decisions that were acknowledged.
type tally struct {
	mu  sync.Mutex
	ids []string
}

func newTally() *tally { return &tally{} }

func (s *tally) acknowledge(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
}

func (s *tally) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// lost counts acknowledged decisions that are not there, and those that are
// there more than once.
func (s *tally) lost(t testing.TB, conn *pgx.Conn) (missing, twice int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	missing = audittest.QueryValue[int](t, conn, `SELECT count(*) FROM unnest($1::uuid[]) AS a(id)
		WHERE NOT EXISTS (SELECT FROM audit.events e WHERE e.decision_id = a.id AND e.kind = 'decision')`, s.ids)
	twice = audittest.QueryValue[int](t, conn, `SELECT count(*) FROM (SELECT FROM audit.events WHERE kind = 'decision' GROUP BY decision_id HAVING count(*) > 1) x`)
	return missing, twice
}

func (s *tally) check(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	if missing, twice := s.lost(t, conn); missing+twice > 0 {
		t.Errorf("of %d acknowledged events %d are missing; %d events are there twice", s.len(), missing, twice)
	}
	t.Logf("%d acknowledged events", s.len())
}

// load records decisions until stop is closed, and counts what is acknowledged.
func load(record func(*audit.Event) error, seen *tally, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for n := range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := audittest.Decision([]string{"allow", "deny"}[n%2], n)
				id := e.DecisionID
				if record(e) == nil {
					seen.acknowledge(id)
					continue
				}
				select { // come back when there may be a log, not at once
				case <-stop:
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	return &wg
}

// crash runs a load on a server that is killed again and again, with the log's
// process or without it, and returns what was acknowledged and a connection to
// what is left. record is how events are recorded.
func crash(t *testing.T, kills int, both bool, record func(*Log, *audit.Event) error) (*tally, *pgx.Conn) {
	t.Helper()
	server, db := pgtest.StartFrom(t, pgtest.Options{}, "sallyport", audittest.Migrate)
	var current atomic.Pointer[Log]
	open := func() {
		current.Store(logFor(t, db.URL(database.Writer), func(c *Config) { c.Log = nil; c.Deadline = 5 * time.Second }))
	}
	open()
	seen, stop := newTally(), make(chan struct{})
	wg := load(func(e *audit.Event) error { return record(current.Load(), e) }, seen, stop)
	progress := func() {
		t.Helper()
		before := seen.len()
		audittest.Eventually(t, "progress", func() bool { return seen.len() >= before+100 })
	}
	for range kills {
		progress()
		server.Kill(t)
		if both {
			kill(current.Load())
		}
		server.Restart(t)
		if both {
			open()
		}
	}
	progress()
	close(stop)
	wg.Wait()
	audittest.Close(t, current.Load())
	return seen, audittest.Connect(t, db.URL(""))
}

func synchronous(t *testing.T) func(*Log, *audit.Event) error {
	return func(l *Log, e *audit.Event) error { return l.Record(t.Context(), e) }
}

// kill -9 of PostgreSQL under load: what was acknowledged is there, once.
func TestCrash(t *testing.T) {
	t.Parallel()
	seen, conn := crash(t, 5, false, synchronous(t))
	audittest.Sound(t, conn)
	seen.check(t, conn)
	// An allow that was recorded and not granted is closed; none is left open
	// that was not reported to its caller.
	granted := make(map[string]bool)
	for _, id := range seen.ids {
		granted[id] = true
	}
	for _, id := range audittest.QueryStrings(t, conn, `SELECT decision_id::text FROM audit.decisions WHERE verdict = 'allow' AND closed_at IS NULL`) {
		if !granted[id] {
			t.Errorf("decision %s is an open allow that nobody was granted", id)
		}
	}
	for _, id := range audittest.QueryStrings(t, conn, `SELECT decision_id::text FROM audit.decisions WHERE verdict = 'allow' AND close_reason = 'audit_unavailable'`) {
		if granted[id] {
			t.Errorf("decision %s was granted and is closed as if not", id)
		}
	}
}

// kill -9 of PostgreSQL and the end of our process at the same moment.
func TestCrashOfBoth(t *testing.T) {
	t.Parallel()
	seen, conn := crash(t, 4, true, synchronous(t))
	audittest.Sound(t, conn)
	seen.check(t, conn)
}

// The negative control: a recorder that answers before the event is durable is
// caught by the same check.
func TestCrashFindsAsynchronousRecording(t *testing.T) {
	t.Parallel()
	pending := make(chan struct{}, 1000)
	seen, conn := crash(t, 3, true, func(l *Log, e *audit.Event) error {
		if l.Available() != nil || l.ctx.Err() != nil {
			return ErrUnavailable
		}
		pending <- struct{}{}
		go func() { _ = l.Record(t.Context(), e); <-pending }()
		return nil
	})
	missing, _ := seen.lost(t, conn)
	if missing == 0 {
		t.Error("asynchronous recording went unnoticed: the crash test proves nothing")
	}
	t.Logf("%d of %d acknowledged events are missing", missing, seen.len())
}
