package writer

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestAsynchronousFailover: a standby that lags is promoted under load. What the
// old primary had acknowledged and the new one does not have is recorded as lost,
// to the number; the process continues under another name; nothing that was
// acknowledged afterwards is lost, and nothing is there twice.
func TestAsynchronousFailover(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	l := logFor(t, p.Url(database.Writer), func(c *Config) { c.WriteTimeout = time.Second })
	old := l.Writer()
	kept, gone, after := newTally(), newTally(), newTally()
	for n := range 20 {
		e := audittest.Decision("allow", n)
		id := e.DecisionID
		audittest.Record(t, l, e)
		kept.acknowledge(id)
	}
	admin := audittest.Connect(t, p.Db.URL(""))
	at := audittest.QueryValue[string](t, admin, `SELECT pg_current_wal_lsn()::text`)
	audittest.Eventually(t, "the standby has it", func() bool {
		return audittest.QueryValue[bool](t, audittest.Connect(t, p.Second().URL("")), `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, at)
	})
	p.Standby.Detach(t)
	for n := range 30 {
		e := audittest.Decision("allow", n)
		id := e.DecisionID
		audittest.Record(t, l, e)
		gone.acknowledge(id)
	}
	stop, under := make(chan struct{}), newTally()
	recording := load(func(e *audit.Event) error { return l.Record(context.Background(), e) }, under, stop)
	audittest.Eventually(t, "some load", func() bool { return under.len() > 50 })
	p.Primary.Kill(t)
	p.Standby.Promote(t)
	audittest.Eventually(t, "the loss is recorded", func() bool { return l.Stats().Lost > 0 })
	close(stop)
	recording.Wait()
	for n := range 20 {
		e := audittest.Decision("allow", n)
		id := e.DecisionID
		audittest.Record(t, l, e)
		after.acknowledge(id)
	}
	if l.Writer() == old {
		t.Error("the writer continues under its name")
	}
	audittest.Close(t, l)

	conn := audittest.Connect(t, p.Second().URL(""))
	audittest.Sound(t, conn)
	kept.check(t, conn)
	after.check(t, conn)
	missing, twice := under.lost(t, conn)
	if all, _ := gone.lost(t, conn); twice != 0 || all != 30 || int64(missing+all) > l.Stats().Lost {
		t.Errorf("%d acknowledged events are missing and %d are recorded as lost; %d are there twice", missing+all, l.Stats().Lost, twice)
	}
	said := audittest.AttributesOf(t, audittest.QueryValue[[]byte](t, conn, `SELECT record FROM audit.events WHERE kind = 'events_lost' AND writer = $1 AND writer_sequence = 2`, l.Writer()))
	last := audittest.QueryValue[int64](t, conn, `SELECT max(writer_sequence) FROM audit.events WHERE writer = $1`, old)
	if said["writer"] != old || said["first"] != strconv.FormatInt(last+1, 10) || said["last"] != strconv.FormatInt(last+l.Stats().Lost, 10) || said["last_in_database"] != strconv.FormatInt(last, 10) {
		t.Errorf("the database has up to %d of %s, and %d are lost: %v", last, old, l.Stats().Lost, said)
	}
	if said["acknowledged_by_timeline"] == said["found_on_timeline"] || said["acknowledged_by_system"] != said["found_on_system"] || said["found_on_system"] == "" {
		t.Errorf("where it was lost: %v", said)
	}
	first := audittest.AttributesOf(t, audittest.QueryValue[[]byte](t, conn, `SELECT record FROM audit.events WHERE kind = 'writer_started' AND writer = $1`, l.Writer()))
	if first["previous_writer"] != old || first["reason"] == "" {
		t.Errorf("%v", first)
	}
}

// TestSynchronousFailover: with a synchronous standby nothing that was
// acknowledged is lost, and the writer keeps its name.
func TestSynchronousFailover(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	p.Primary.SynchronousStandby(t, "second")
	l := logFor(t, p.Url(database.Writer), func(c *Config) { c.WriteTimeout = time.Second })
	name := l.Writer()
	seen := newTally()
	stop := make(chan struct{})
	recording := load(func(e *audit.Event) error { return l.Record(context.Background(), e) }, seen, stop)
	audittest.Eventually(t, "some load", func() bool { return seen.len() > 100 })
	p.Primary.Kill(t)
	p.Standby.SynchronousStandby(t, "")
	p.Standby.Promote(t)
	before := seen.len()
	audittest.Eventually(t, "load after the failover", func() bool { return seen.len() > before+50 })
	close(stop)
	recording.Wait()
	audittest.Close(t, l)
	if l.Writer() != name || l.Stats().Lost != 0 {
		t.Errorf("%d events are lost, and the writer is %s", l.Stats().Lost, l.Writer())
	}
	conn := audittest.Connect(t, p.Second().URL(""))
	audittest.Sound(t, conn)
	seen.check(t, conn)
}

// TestLossIsComparedIsNeeded: a writer that does not compare what was
// acknowledged with what is there continues its numbers behind a gap that is not
// reported.
func TestLossIsComparedIsNeeded(t *testing.T) {
	t.Parallel()
	for _, compared := range []bool{true, false} {
		db := audittest.Migrated(t)
		faults, through := throughFaults(t, db)
		l := logFor(t, through, nil)
		for n := range 5 {
			audittest.Record(t, l, audittest.Decision("allow", n))
		}
		forget(t, db, l, 3, compared)
		faults.mode.Store(cutBefore)
		audittest.Record(t, l, audittest.Decision("allow", 9))
		audittest.Close(t, l)
		conn := audittest.Connect(t, db.URL(""))
		gaps := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM (SELECT FROM audit.events GROUP BY writer HAVING count(*) <> max(writer_sequence)) x`)
		reported := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'events_lost'`)
		if compared && (gaps != 0 || reported != 1) || !compared && (gaps != 1 || reported != 0) {
			t.Errorf("compared %t: %d gaps, %d reported", compared, gaps, reported)
		}
	}
}

// forget takes the events of a writer behind a number out of the database, as a
// failover does; where nothing is compared, the writer forgets them too.
func forget(t *testing.T, db *pgtest.DB, l *Log, to int64, compared bool) {
	t.Helper()
	admin := audittest.Connect(t, db.URL(""))
	audittest.DisableTriggers(t, admin)
	if _, err := admin.Exec(t.Context(), `DELETE FROM audit.events WHERE writer = $1 AND writer_sequence > $2`, l.Writer(), to); err != nil {
		t.Fatal(err)
	}
	if !compared {
		l.acknowledged = acknowledged{} // the committer is idle, and reads it after our next event
	}
}

// TestJournalContinuesAnother: what is in the journal when acknowledged events turn
// out to be missing reaches the log once, under the new name, also where the
// process is killed in the middle.
func TestJournalContinuesAnother(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	j := &journal{folder: folder, writer: "old", spool: true, maxBytes: 1 << 20, maxAge: time.Hour}
	g := newGroup("old")
	ids := make(map[string]bool)
	for n := range 10 {
		e := audittest.Decision("allow", n)
		e.Writer, e.WriterSequence = "old", int64(100+n)
		e.Normalise()
		ids[e.DecisionID] = true
		g.add(e, nil)
	}
	if err := j.append(g, time.Now()); err != nil {
		t.Fatal(err)
	}
	last, err := j.continueAs("new", "secret", 2)
	if err != nil || last != 12 {
		t.Fatal(last, err)
	}
	g.reset()
	e := ending("")
	e.Writer, e.WriterSequence = "new", 13
	e.Normalise()
	g.writer = "new"
	g.add(e, nil)
	if err := j.append(g, time.Now()); err != nil {
		t.Fatal(err)
	}
	reader, err := openJournal(io.NewSectionReader(j.file, 0, j.size))
	if err != nil || reader.Writer != "new" || reader.Continues != "old" || !reader.Spool {
		t.Fatalf("%+v, %v", reader, err)
	}
	next := int64(3)
	if err := reader.each(func(g *group) error {
		for _, r := range g.rows {
			if r.sequence != next || sequenceOf(g.tuple(r)) != next || !isTuple(g.tuple(r)) {
				t.Errorf("number %d, want %d", r.sequence, next)
			}
			if record := string(g.record(r)); !strings.Contains(record, fmt.Sprintf(`"writer":"new","writer_sequence":%d`, next)) {
				t.Errorf("the record says %s", record)
			}
			next++
		}
		return nil
	}); err != nil || next != 14 {
		t.Errorf("up to %d: %v", next, err)
	}
	if left, _ := os.ReadDir(folder); len(left) != 1 || left[0].Name() != "old.journal" {
		t.Errorf("%v", left)
	}
	if err := j.drop(); err != nil {
		t.Error(err)
	}
}
