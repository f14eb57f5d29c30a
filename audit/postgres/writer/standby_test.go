package writer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestSynchronousStandbyUnavailable: while no standby confirms, nothing counts
// as recorded in the database; it is one outage that names the standby, whatever
// is committed locally meanwhile, and the journal takes over as in any other.
func TestSynchronousStandbyUnavailable(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	p.Primary.SynchronousStandby(t, "second")
	l := logFor(t, p.Db.URL(database.Writer), func(c *Config) {
		c.WriteTimeout, c.Journal, c.Spool = 200*time.Millisecond, t.TempDir(), true
	})
	seen := newTally()
	allow := func(n int) {
		e := audittest.Decision("allow", n)
		id := e.DecisionID
		audittest.Record(t, l, e)
		seen.acknowledge(id)
	}
	allow(0)
	before := l.Stats().Recorded
	p.Standby.Freeze(t)
	allow(1) // waits until the outage is found, and rests on the journal
	if st := l.Stats(); st.Journaled == 0 || st.Recorded != before {
		t.Errorf("the database counts as the place of an event that no standby has: %+v", st)
	}
	audittest.Eventually(t, "the cause is named", func() bool {
		o := l.outage.Load()
		return o != nil && errors.Is(o.err, database.ErrNotReplicated) && strings.Contains(o.err.Error(), "synchronous_standby_names")
	})
	since := l.outage.Load().since
	for n := range 3 {
		tried := l.outage.Load()
		allow(2 + n)
		audittest.Eventually(t, "another attempt has failed", func() bool { return l.outage.Load() != tried })
		if o := l.outage.Load(); o == nil || !o.since.Equal(since) {
			t.Fatal("the outage has ended without a standby")
		}
	}
	if st := l.Stats(); st.Reconnects != 0 || st.Recorded != before {
		t.Errorf("it flaps: %+v", st)
	}
	p.Standby.Thaw(t)
	audittest.Eventually(t, "recovered", func() bool { return l.outage.Load() == nil })
	allow(9)
	audittest.Close(t, l)
	conn := audittest.Connect(t, p.Db.URL(""))
	audittest.Sound(t, conn)
	seen.check(t, conn)
	// And what was acknowledged survives the primary.
	p.Primary.Kill(t)
	p.Standby.Promote(t)
	seen.check(t, audittest.Connect(t, p.Second().URL("")))
}

// TestConfirmIsNeeded: a row whose wait for the standby was cut short is visible
// on the primary and not on the standby. A session that only looks for it would
// count it as durable.
func TestConfirmIsNeeded(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	p.Primary.SynchronousStandby(t, "second")
	l := logFor(t, p.Db.URL(database.Writer), nil)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Close(t, l)
	p.Standby.Detach(t)

	_, err := openSessionWithin(t.Context(), l.connect, 50*time.Millisecond)
	if !errors.Is(err, database.ErrNotReplicated) {
		t.Fatalf("a session without a standby: %v", err)
	}
	// The control is removed: the session does not ask the standby.
	p.Primary.SynchronousStandby(t, "")
	var s *session
	audittest.Eventually(t, "the session before has ended", func() bool { // as the committer does: it connects again until it can
		s, err = openSessionWithin(t.Context(), l.connect, time.Minute)
		return err == nil
	})
	defer s.close()
	if err := s.authenticate(t.Context(), l.secret); err != nil {
		t.Fatal(err)
	}
	p.Primary.SynchronousStandby(t, "second")
	g := newGroup(l.Writer())
	e := audittest.Decision("allow", 2)
	e.Writer, e.WriterSequence = l.Writer(), 4
	e.Normalise()
	g.add(e, nil)
	if err := s.writeWithin(g, 200*time.Millisecond); err == nil {
		t.Fatal("a commit without a standby was acknowledged")
	}
	admin := audittest.Connect(t, p.Db.URL(""))
	end := func() bool {
		return audittest.QueryValue[int](t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1`, auditpg.ApplicationName(l.Writer())) == 0
	}
	audittest.Eventually(t, "the session is gone", end)
	p.Primary.SynchronousStandby(t, "")
	again, err := openSessionWithin(t.Context(), l.connect, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if missing, err := again.settle(t.Context(), g); err != nil || missing != 0 {
		t.Errorf("%d events had to be written, %v: without Confirm the row was not counted as durable", missing, err)
	}
	p.Primary.Kill(t)
	p.Standby.Promote(t)
	if n := audittest.QueryValue[int](t, audittest.Connect(t, p.Second().URL("")), `SELECT count(*) FROM audit.events WHERE decision_id = $1`, e.DecisionID); n != 0 {
		t.Error("the standby had the row")
	}
}

// TestCanceledWaitIsNoCommit: an administrator who cancels the wait for the
// standby makes the server report success. The event is not acknowledged before
// a standby has it.
func TestCanceledWaitIsNoCommit(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	p.Primary.SynchronousStandby(t, "second")
	l := logFor(t, p.Db.URL(database.Writer), nil)
	p.Standby.Freeze(t)
	done := make(chan error, 1)
	e := audittest.Decision("allow", 1)
	go func() { done <- l.Record(context.Background(), e) }()
	admin := audittest.Connect(t, p.Db.URL(""))
	audittest.Eventually(t, "the commit waits and is canceled", func() bool {
		return audittest.QueryValue[int](t, admin, `SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) FROM pg_stat_activity WHERE application_name = $1 AND wait_event = 'SyncRep'`, auditpg.ApplicationName(l.Writer())) > 0
	})
	audittest.Eventually(t, "the outage is found", func() bool { return l.outage.Load() != nil })
	select {
	case err := <-done:
		t.Fatalf("Record returned %v before a standby had the event", err)
	default:
	}
	p.Standby.Thaw(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
	audittest.Close(t, l)
	audittest.Sound(t, audittest.Connect(t, p.Db.URL("")))
}

// TestDroppedRowsAreFound: a trigger that drops rows makes the database report
// success for nothing. A small group checks each statement, a large one the COPY.
func TestDroppedRowsAreFound(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), func(c *Config) { c.Deadline = 500 * time.Millisecond })
	audittest.Record(t, l, audittest.Decision("allow", 0))
	admin := audittest.Connect(t, db.URL(""))
	dropRows(t, db, true)
	for _, size := range []int{1, 3, 50} {
		var wg sync.WaitGroup
		for n := range size {
			wg.Go(func() {
				if err := l.Record(t.Context(), audittest.Decision("allow", n)); err == nil {
					t.Errorf("group of %d: an event that is not stored was acknowledged", size)
				}
			})
		}
		wg.Wait()
	}
	audittest.Eventually(t, "the cause is named", func() bool {
		o := l.outage.Load()
		return o != nil && strings.Contains(o.err.Error(), "a trigger or rule on audit.events")
	})
	dropRows(t, db, false)
	audittest.Eventually(t, "recovered", func() bool { return l.Available() == nil && l.Stats().Waiting == 0 })
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Close(t, l)
	audittest.Sound(t, admin)
}

// dropRows makes a trigger that swallows decisions, or removes it.
func dropRows(t *testing.T, db *pgtest.DB, on bool) {
	t.Helper()
	sql := `DROP TRIGGER swallow ON audit.events`
	if on {
		sql = `CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER swallow BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.swallow()`
	}
	if _, err := audittest.Connect(t, db.URL("")).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestRowCountIsNeeded: with such a trigger the batch itself reports no error.
func TestRowCountIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	audittest.Close(t, l)
	dropRows(t, db, true)
	s, err := openSessionWithin(t.Context(), l.connect, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	g := newGroup(l.Writer())
	e := audittest.Decision("allow", 1)
	e.Writer, e.WriterSequence = l.Writer(), 3
	g.add(e, nil)
	var dropped swallowedError
	if err := s.write(t.Context(), g); !errors.As(err, &dropped) {
		t.Errorf("%v", err)
	}
	s.batch.ExecStatement(s.insert, auditpg.TupleFields(nil, g.tuple(g.rows[0])), s.formats, nil)
	if err := s.conn.PgConn().ExecBatch(t.Context(), &s.batch).Close(); err != nil {
		t.Errorf("the batch reports %v: the row count is not needed", err)
	}
}
