package writer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// spooling is a log whose journal backs allows, on a database that is unavailable.
func spooling(t *testing.T, change func(*Config)) (*pgtest.Server, *pgtest.DB, *Log) {
	t.Helper()
	server, db, l := frozen(t, func(c *Config) {
		c.Journal, c.Spool, c.Deadline = t.TempDir(), true, 3*time.Second
		if change != nil {
			change(c)
		}
	})
	server.Kill(t)
	audittest.Record(t, l, audittest.Decision("allow", 0))
	audittest.Eventually(t, "outage", func() bool { return l.currentOutage() != nil })
	return server, db, l
}

// While the journal backs allows the counters show it, and when the database is
// back an event records from when to when it did, and how many.
func TestSpool(t *testing.T) {
	t.Parallel()
	server, db, l := spooling(t, nil)
	began := time.Now()
	for n := range 10 {
		audittest.Record(t, l, audittest.Decision([]string{"allow", "deny"}[n%2], n))
	}
	if s := l.Stats(); !s.Spooling || s.Spooled != 6 || s.JournalFull || s.JournalSince.IsZero() || s.JournalSince.After(began) {
		t.Errorf("%+v", s)
	}
	if err := l.Available(); err != nil {
		t.Error(err)
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	audittest.Record(t, l, audittest.Decision("allow", 1))
	if s := l.Stats(); s.Spooling || !s.JournalSince.IsZero() || s.JournalBytes != 0 {
		t.Errorf("%+v", s)
	}
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	told := journalEvents(t, conn)
	if len(told) != 1 || told[0]["allows"] != "6" || told[0]["events"] != "11" || told[0]["writer"] != l.Writer() {
		t.Fatalf("it says %v", told)
	}
	from, err := time.Parse(time.RFC3339Nano, told[0]["from"])
	to, err2 := time.Parse(time.RFC3339Nano, told[0]["to"])
	if err != nil || err2 != nil || from.After(began) || to.Before(began) {
		t.Errorf("it says from %v to %v", told[0]["from"], told[0]["to"])
	}
}

// A database that answers nothing, or refuses what is written, is unavailable like one
// that is not there.
func TestSpoolWhileStoppedOrReadOnly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"stopped", "read-only"} {
		t.Run(name, func(t *testing.T) {
			server, db, l := frozen(t, func(c *Config) { c.Journal, c.Spool = t.TempDir(), true })
			admin := audittest.Connect(t, db.URL(""))
			readOnly := func(value string) {
				for _, sql := range []string{"SET default_transaction_read_only = off", "ALTER SYSTEM SET default_transaction_read_only = " + value, "SELECT pg_reload_conf()"} {
					if _, err := admin.Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
				}
			}
			if name == "stopped" {
				server.Freeze(t)
			} else {
				readOnly("on")
				audittest.Eventually(t, "read-only", func() bool {
					return audittest.QueryValue[string](t, audittest.Connect(t, db.URL("")), "SHOW default_transaction_read_only") == "on"
				})
			}
			for n := range 5 {
				audittest.Record(t, l, audittest.Decision("allow", n))
			}
			audittest.Eventually(t, "spooling", func() bool { return l.Stats().Spooling })
			if name == "stopped" {
				server.Thaw(t)
			} else {
				readOnly("off")
			}
			audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
			audittest.Close(t, l)
			audittest.Sound(t, admin)
			if n := audittest.QueryValue[int](t, admin, "SELECT count(*) FROM audit.decisions WHERE verdict = 'allow'"); n != 5 {
				t.Errorf("%d allows of 5", n)
			}
		})
	}
}

// The folder, or the file, is removed while the log uses it: what is written to a file
// without a name is lost with the process, so nothing is acknowledged any more; and
// what was acknowledged is written when the database has recovered.
func TestJournalIsTakenAway(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(folder, path string) error{
		"folder": func(folder, _ string) error { return os.Rename(folder, folder+".gone") },
		"file":   func(_, path string) error { return os.Remove(path) },
		"another file": func(_, path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte("x"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, db, l := spooling(t, nil)
			if err := take(l.config.Journal, l.journal.path()); err != nil {
				t.Fatal(err)
			}
			if err := l.Record(t.Context(), audittest.Decision("allow", 1)); !errors.Is(err, ErrUnavailable) {
				t.Errorf("an allow that only a file without a name holds: %v", err)
			}
			if l.Available() == nil || !l.Stats().JournalFull || l.Stats().Spooling {
				t.Errorf("%+v", l.Stats())
			}
			server.Restart(t)
			audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
			if l.Stats().JournalFull {
				t.Error("the journal stays full")
			}
			audittest.Close(t, l)
			conn := audittest.Connect(t, db.URL(""))
			audittest.Sound(t, conn)
			if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.decisions WHERE verdict = 'allow' AND closed_at IS NULL"); n != 1 {
				t.Errorf("%d allows are open, and one was granted", n)
			}
		})
	}
}

// The disk has no room for the journal's beginning: nothing is allowed, and when
// it has room again the journal is one that can be read.
func TestNoRoomForTheJournal(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	server, db, l := frozen(t, func(c *Config) { c.Journal, c.Spool, c.Deadline = folder, true, 300*time.Millisecond })
	if err := os.Symlink("/dev/full", filepath.Join(folder, l.Writer()+journalSuffix)); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	if err := l.Record(t.Context(), audittest.Decision("allow", 0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an allow on a full disk: %v", err)
	}
	// The name does not lead to the full device any more: there is room.
	audittest.Eventually(t, "the journal takes events again", func() bool { return l.Stats().Journaled > 0 && !l.Stats().JournalFull })
	audittest.Eventually(t, "allowed", func() bool { return l.Record(t.Context(), audittest.Decision("allow", 1)) == nil })
	kill(l)
	server.Restart(t)
	audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder }))
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if told := journalEvents(t, conn); len(told) != 1 || told[0]["damage"] != "" || told[0]["events"] == "0" {
		t.Errorf("it says %v", told)
	}
}

// A journal that may not even hold one event holds nothing up when the database
// is back.
func TestJournalWithoutRoomForOneEvent(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, func(c *Config) {
		c.Journal, c.JournalBytes, c.Spool, c.Deadline = t.TempDir(), 10, true, 300*time.Millisecond
	})
	server.Kill(t)
	if err := l.Record(t.Context(), audittest.Decision("allow", 0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	audittest.Record(t, l, audittest.Decision("allow", 1))
	if left, _ := filepath.Glob(filepath.Join(l.config.Journal, "*")); len(left) > 0 || l.Stats().JournalFull {
		t.Errorf("left %v, full: %t", left, l.Stats().JournalFull)
	}
	audittest.Close(t, l)
	audittest.Sound(t, audittest.Connect(t, db.URL("")))
}

// After its time a journal backs nothing more, though it has room.
func TestOldJournal(t *testing.T) {
	t.Parallel()
	_, _, l := spooling(t, func(c *Config) { c.JournalAge = time.Nanosecond })
	if l.Available() == nil || l.Stats().Spooling || !l.Stats().JournalFull {
		t.Errorf("%+v", l.Stats())
	}
	if err := l.Record(t.Context(), audittest.Decision("allow", 1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	kill(l)
}

// The disk changes what was synced, while we live: the log stops and reports it,
// and the next process writes what comes before the damage.
func TestOwnJournalIsChanged(t *testing.T) {
	t.Parallel()
	server, db, l := spooling(t, nil)
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
	}
	file, err := os.OpenFile(l.journal.path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("changed"), l.journal.size-100); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	server.Restart(t)
	audittest.Eventually(t, "the log stops", l.failed)
	if err := l.Available(); err == nil || !strings.Contains(err.Error(), "was changed on the disk") {
		t.Errorf("%v", err)
	}
	if err := l.Record(t.Context(), audittest.Decision("allow", 1)); err == nil {
		t.Error("the log goes on")
	}
	<-l.done
	audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = l.config.Journal }))
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if told := journalEvents(t, conn); len(told) != 1 || !strings.Contains(told[0]["damage"], "checksum") || told[0]["events"] != "5" {
		t.Errorf("it says %v", told)
	}
}

// The process is killed while it writes its journal to the database, again and
// again: each event is there once.
func TestKilledDuringReplay(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	server, db, l := spooling(t, func(c *Config) { c.Journal = folder })
	ids := []string{}
	for n := range 40 {
		e := audittest.Decision("allow", n)
		ids = append(ids, e.DecisionID)
		audittest.Record(t, l, e)
	}
	kill(l)
	server.Restart(t)
	// As if the first events had been written, in groups of another size, and the
	// file not yet removed.
	file, err := os.Open(filepath.Join(folder, l.Writer()+journalSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	j, err := openJournal(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := database.ParseConfig(db.URL(database.Writer), "half a replay")
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSession(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.authenticate(t.Context(), j.Secret); err != nil {
		t.Fatal(err)
	}
	if err := j.each(func(g *group) error { return s.write(t.Context(), g.only(g.rows[:len(g.rows)/2])) }); err != nil {
		t.Fatal(err)
	}
	audittest.Close(t, logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder }))
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE decision_id = ANY($1::uuid[])", ids); n != 40 {
		t.Errorf("%d events of 40", n)
	}
}

// A COMMIT that the server acknowledges before it is on disk dies with the
// server. Sessions ask for more, whatever server, database and role set; without
// that an acknowledged event is lost.
func TestSynchronousCommitIsPinned(t *testing.T) {
	t.Parallel()
	server, db := pgtest.StartFrom(t, pgtest.Options{NoSync: true, Settings: map[string]string{
		"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB",
	}}, "sallyport", audittest.Migrate)
	admin := audittest.Connect(t, db.URL(""))
	for _, sql := range []string{"ALTER ROLE sallyport_writer SET synchronous_commit = off", `ALTER DATABASE "` + db.Name + `" SET synchronous_commit = off`} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	config, err := database.ParseConfig(db.URL(database.Writer), "test")
	if err != nil {
		t.Fatal(err)
	}
	for _, pinned := range []bool{true, false} {
		s, err := openSession(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if !pinned {
			if _, err := s.conn.Exec(t.Context(), "SET synchronous_commit = off"); err != nil {
				t.Fatal(err)
			}
			server.Stop(t, "walwriter") // it would write what waits, sooner or later
		}
		writer := audittest.ActAs(t, s.conn)
		if err := s.write(t.Context(), rowsOf(writer, 1, 5)); err != nil {
			t.Fatal(err)
		}
		server.Kill(t)
		s.close()
		server.Restart(t)
		if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), "SELECT count(*) FROM audit.events WHERE writer = $1", writer); (n == 5) != pinned {
			t.Errorf("pinned %t: %d events of 5 are there", pinned, n)
		}
	}
}

// A server that does not sync is noticed, also when it is made so later.
func TestDatabaseThatDoesNotSync(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, nil)
	if !l.Stats().Unsafe {
		t.Error("fsync = off goes unnoticed")
	}
	audittest.Record(t, l, audittest.Decision("allow", 1))
	server.Kill(t)
	server.Restart(t)
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	if got := audittest.QueryValue[string](t, conn, `SELECT convert_from(record, 'UTF8')::json -> 'attributes' ->> 'database_durable' FROM audit.events WHERE kind = 'writer_started'`); got != "false" {
		t.Errorf("database_durable is %q", got)
	}
}

// A large journal is replayed while the log continues recording: no caller waits for
// all of it, and the order stays.
func TestRecordingGoesOnWhileTheJournalIsReplayed(t *testing.T) {
	t.Parallel()
	server, db, l := spooling(t, func(c *Config) { c.WriteTimeout = time.Minute })
	seen, stop := newTally(), make(chan struct{})
	// The journal must not fill up, however long the machine takes: nothing is recorded
	// while the server starts, and so many events at most before the replay is over.
	var starting sync.RWMutex
	events := make(chan struct{}, 20_000)
	for range cap(events) {
		events <- struct{}{}
	}
	long := strings.Repeat("x", 2000) // few events make a large journal
	wg := load(func(e *audit.Event) error {
		e.Path = long
		<-events
		starting.RLock()
		err := l.Record(t.Context(), e)
		starting.RUnlock()
		if err != nil {
			t.Error(err)
		}
		return err
	}, seen, stop)
	audittest.Eventually(t, "some megabytes are in the journal", func() bool { return l.Stats().JournalBytes > 6*catchUpRest })
	starting.Lock()
	server.Restart(t)
	starting.Unlock()
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	close(events) // as many as there are
	before := seen.len()
	audittest.Eventually(t, "it goes on", func() bool { return seen.len() > before+100 })
	close(stop)
	wg.Wait()
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	seen.check(t, conn)
	told := journalEvents(t, conn)
	if len(told) != 1 || told[0]["events"] != told[0]["new"] {
		t.Fatalf("it says %v", told)
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE time <= $1::timestamptz AND kind = 'decision'", told[0]["to"]); n < 1000 {
		t.Errorf("%d events up to the end of the journal", n)
	}
}
