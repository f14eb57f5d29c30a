package writer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// frozen opens a log on a server of its own, for a test that takes it away.
func frozen(t *testing.T, change func(*Config)) (*pgtest.Server, *pgtest.DB, *Log) {
	t.Helper()
	server, db := pgtest.StartFrom(t, pgtest.Options{NoSync: true}, "sallyport", audittest.Migrate)
	return server, db, logFor(t, db.URL(database.Writer), func(c *Config) {
		c.WriteTimeout = 200 * time.Millisecond
		if change != nil {
			change(c)
		}
	})
}

func ending(id string) *audit.Event {
	return &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, DecisionID: id, BytesSent: 1, CloseReason: "client_closed"}
}

// The database does not answer, and those who wait have a deadline: an allow
// that had its number is closed, one that had none becomes the refusal that its
// client got, and no caller waits longer than that.
func TestLateAllowsAreNeverLeftOpen(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, func(c *Config) { c.WriteTimeout = 3 * time.Second; c.Deadline = 300 * time.Millisecond })
	server.Freeze(t)
	first, second := audittest.Decision("allow", 1), audittest.Decision("allow", 2)
	ids := []string{first.DecisionID, second.DecisionID}
	if err := l.Record(t.Context(), first); !errors.Is(err, ErrUnavailable) {
		t.Errorf("first: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := l.Record(ctx, second); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second: %v", err)
	}
	server.Thaw(t)
	audittest.Eventually(t, "back", func() bool { return l.Stats().Recorded >= 4 })
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	got := audittest.QueryStrings(t, conn, `SELECT verdict || ' ' || reason || ' ' || coalesce(close_reason, 'open') || ' ' || status FROM audit.decisions
		WHERE decision_id = ANY($1::uuid[]) ORDER BY decision_id = $2::uuid DESC`, ids, ids[0])
	if strings.Join(got, "; ") != "allow policy_allowed audit_unavailable 200; deny audit_unavailable open 503" {
		t.Errorf("%q", got)
	}
}

// Without a journal: while the database is known to be unavailable no caller waits, and
// the accepted events are written when it has recovered.
func TestAwayWithoutJournal(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, func(c *Config) { c.Queue = 4; c.Deadline = 2 * time.Second })
	server.Kill(t)
	_ = l.Record(t.Context(), ending("")) // finds out, and is written later
	audittest.Eventually(t, "outage", func() bool { return l.Available() != nil })
	if err := l.Available(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "since 20") {
		t.Errorf("%v", err)
	}
	if l.Stats().Outage == 0 {
		t.Error("the outage is not in the counters")
	}
	allow := audittest.Decision("allow", 1)
	id := allow.DecisionID
	if err := l.Record(t.Context(), allow); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	for n := range 10 {
		_ = l.Record(t.Context(), audittest.Decision("deny", n))
	}
	if l.Stats().Rejected == 0 {
		t.Error("the queue has no bound")
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.Available() == nil })
	audittest.Record(t, l, audittest.Decision("allow", 2))
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if got := audittest.QueryStrings(t, conn, "SELECT verdict || ' ' || reason FROM audit.decisions WHERE decision_id = $1", id); len(got) != 1 || got[0] != "deny audit_unavailable" {
		t.Errorf("the allow became %v", got)
	}
}

// With a journal refusals and ends are durable on the local disk, and follow in
// order; an allow is refused, unless the operator chose otherwise.
func TestJournalDuringOutage(t *testing.T) {
	t.Parallel()
	for name, spool := range map[string]bool{"deny": false, "spool": true} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			server, db, l := frozen(t, func(c *Config) { c.Journal = folder; c.Spool = spool })
			server.Kill(t)
			audittest.Record(t, l, ending("")) // waits for the grace, and goes to the journal
			audittest.Eventually(t, "outage", func() bool { return l.currentOutage() != nil })
			if err := l.Available(); (err == nil) != spool {
				t.Errorf("available: %v", err)
			}
			allow := audittest.Decision("allow", 1)
			id := allow.DecisionID
			if err := l.Record(t.Context(), allow); (err == nil) != spool {
				t.Errorf("allow: %v", err)
			}
			for n := range 20 {
				audittest.Record(t, l, audittest.Decision("deny", n))
			}
			if s := l.Stats(); s.Journaled < 21 || s.JournalBytes == 0 {
				t.Errorf("%+v", s)
			}
			server.Restart(t)
			audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
			audittest.Record(t, l, audittest.Decision("deny", 3))
			if left, _ := filepath.Glob(filepath.Join(folder, "*")); len(left) > 0 {
				t.Errorf("left in the journal's folder: %v", left)
			}
			audittest.Close(t, l)
			conn := audittest.Connect(t, db.URL(""))
			audittest.Sound(t, conn)
			want := map[bool]string{false: "deny audit_unavailable", true: "allow policy_allowed"}[spool]
			if got := audittest.QueryStrings(t, conn, "SELECT verdict || ' ' || reason FROM audit.decisions WHERE decision_id = $1", id); len(got) != 1 || got[0] != want {
				t.Errorf("the allow became %v", got)
			}
			if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.denials"); n < 21 {
				t.Errorf("%d refusals", n)
			}
		})
	}
}

// The process ends during the outage: the next one finds the journal.
func TestJournalOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	server, db, l := frozen(t, func(c *Config) { c.Journal = folder })
	old := l.Writer()
	server.Kill(t)
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("deny", n))
	}
	kill(l)

	// What the kill cut short is found, reported, and kept.
	path := filepath.Join(folder, old+journalSuffix)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("\x00\x00\x01\x00half a frame"); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()

	server.Restart(t)
	next := logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder })
	audittest.Close(t, next)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.denials WHERE writer = $1", old); n != 5 {
		t.Errorf("%d events were replayed of 5", n)
	}
	said := audittest.QueryValue[string](t, conn, "SELECT convert_from(record, 'UTF8')::json ->> 'attributes' FROM audit.events WHERE kind = 'admin' AND action = 'journal_replayed'")
	if !strings.Contains(said, old) || !strings.Contains(said, "cut_short") {
		t.Errorf("%s", said)
	}
	if _, err := os.Stat(path + ".cut"); err != nil {
		t.Error(err)
	}
}

func TestFullJournal(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, func(c *Config) {
		c.Journal, c.JournalBytes, c.Spool, c.Deadline = t.TempDir(), 10_000, true, 2*time.Second
	})
	server.Kill(t)
	var err error
	for n := 0; err == nil; n++ {
		err = l.Record(t.Context(), audittest.Decision("allow", n))
	}
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if l.Available() == nil || !l.Stats().JournalFull {
		t.Error("a full journal goes on allowing")
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	audittest.Record(t, l, audittest.Decision("allow", 1))
	if l.Available() != nil || l.Stats().JournalFull {
		t.Error("the journal stays full")
	}
	audittest.Close(t, l)
	audittest.Sound(t, audittest.Connect(t, db.URL("")))
}
