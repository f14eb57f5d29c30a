package writer

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func TestRecord(t *testing.T) {
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	leaks := goleak.IgnoreCurrent()
	l := logFor(t, db.URL(database.Writer), nil)
	if err := l.Available(); err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			verdict := []string{"allow", "deny"}[n%2]
			e := audittest.Decision(verdict, n)
			id := e.DecisionID
			audittest.Record(t, l, e)
			// Durable when Record returns: another connection sees it.
			if verdict == "allow" {
				audittest.Record(t, l, &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, DecisionID: id, BytesSent: 10, BytesReceived: int64(n),
					Duration: 1500 * time.Millisecond, CloseReason: "client_closed"})
			}
		})
	}
	wg.Wait()
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events"); n != 76 {
		t.Errorf("%d events before the end, want 76", n)
	}
	if s := l.Stats(); s.Recorded != 76 || s.Waiting != 0 || s.Groups == 0 {
		t.Errorf("%+v", s)
	}
	audittest.Close(t, l)
	goleak.VerifyNone(t, leaks)
	audittest.Sound(t, conn)
	if err := l.Record(t.Context(), audittest.Decision("allow", 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	if got := audittest.QueryStrings(t, conn, "SELECT kind FROM audit.events WHERE kind LIKE 'writer%' ORDER BY writer_sequence"); strings.Join(got, " ") != "writer_started writer_ended" {
		t.Errorf("%v", got)
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.decisions WHERE bytes_sent = 10 AND duration = '1.5 s' AND closed_at >= time AND close_reason = 'client_closed'"); n != 25 {
		t.Errorf("%d closed decisions", n)
	}
	for view, want := range map[string]int{"decisions": 50, "denials": 25, "would_deny": 0, "policy_changes": 0, "writers": 1} {
		if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit."+view); n != want {
			t.Errorf("audit.%s has %d rows, want %d", view, n, want)
		}
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT sum(allowed + denied)::int FROM audit.deployment_egress"); n != 50 {
		t.Errorf("deployment_egress counts %d", n)
	}
	attributes := audittest.QueryValue[string](t, conn, "SELECT convert_from(record, 'UTF8')::json ->> 'attributes' FROM audit.events WHERE kind = 'writer_started'")
	for _, name := range []string{"version", "hostname", "pid", "database_clock_ahead"} {
		if !strings.Contains(attributes, `"`+name+`"`) {
			t.Errorf("writer_started lacks %s: %s", name, attributes)
		}
	}
}

// Any login can compute a leaf in SQL (RFC 6962 section 2.1).
func TestLeafInSQL(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	conn := audittest.Connect(t, db.URL(database.Auditor))
	rows, err := conn.Query(t.Context(), `SELECT audit.record(e), encode(sha256('\x00'::bytea || audit.record(e)), 'hex') FROM audit.events e`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var bytes []byte
		var leaf string
		if err := rows.Scan(&bytes, &leaf); err != nil {
			t.Fatal(err)
		}
		if want := audit.Leaf(bytes); leaf != hex.EncodeToString(want[:]) {
			t.Errorf("leaf %s of %s", leaf, bytes)
		}
	}
	if rows.Err() != nil || n != 2 {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
}

func TestViews(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	softened := audittest.Decision("allow", 1)
	softened.Mode, softened.WouldDeny, softened.Reason, softened.Rule = "report", true, "no_rule_matched", ""
	audittest.Record(t, l, softened)
	audittest.Record(t, l, &audit.Event{Time: time.Now(), Kind: audit.KindPolicyLoaded, Revision: audittest.DigestOf("package sallyport.egress\n"), Commit: "c0ffee",
		Attributes: []audit.Attribute{{Name: "author", Value: "Ada"}}})
	if err := l.PutPolicy(t.Context(), audittest.DigestOf("package sallyport.egress\n"), []byte("package sallyport.egress\n")); err != nil {
		t.Fatal(err)
	}
	conn := audittest.Connect(t, db.URL(database.Auditor))
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.would_deny WHERE reason = 'no_rule_matched'"); n != 1 {
		t.Errorf("would_deny: %d", n)
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.denials"); n != 0 {
		t.Errorf("denials in report mode: %d", n)
	}
	if who := audittest.QueryValue[string](t, conn, "SELECT attributes ->> 'author' FROM audit.policy_changes WHERE revision LIKE 'sha256:%' AND commit = 'c0ffee' AND first_seen IS NOT NULL"); who != "Ada" {
		t.Errorf("author %q", who)
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT would_deny::int FROM audit.deployment_egress"); n != 1 {
		t.Errorf("deployment_egress: %d", n)
	}
}

func TestPutPolicy(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	for range 2 {
		if err := l.PutPolicy(t.Context(), audittest.DigestOf("\x00\xff"), []byte{0, 0xff}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.PutPolicy(t.Context(), audittest.DigestOf("\x00\xff"), []byte("other")); err == nil || !strings.Contains(err.Error(), "policies_digest") {
		t.Errorf("a digest got a second content: %v", err)
	}
	if err := l.PutPolicy(t.Context(), audittest.DigestOf(""), nil); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	empty := pgtest.New(t)
	db := audittest.Migrated(t)
	for name, tt := range map[string]struct{ url, want string }{
		"no URL":      {"", "is empty"},
		"no schema":   {empty.URL(""), "run `sallyport migrate`"},
		"no database": {server.URL("nothing", ""), `CREATE DATABASE "nothing"`},
		"no right":    {db.URL(database.Auditor), "lacks a privilege"},
	} {
		l, err := Open(t.Context(), Config{URL: tt.url})
		if err == nil {
			audittest.Close(t, l)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A month that has no partition is not a reason to lose an event, or to
// refuse one.
func TestMissingPartitions(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	conn := audittest.Connect(t, db.URL(""))
	times := []string{
		"1970-01-01T00:00:00Z", "2024-02-29T23:59:59.999999999Z", "2024-03-01T00:00:00Z",
		"2030-12-31T23:59:59.999999Z", "2031-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:01Z",
	}
	var wg sync.WaitGroup
	for i, at := range times {
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			e := audittest.Decision("deny", i)
			e.Time = when
			wg.Go(func() { audittest.Record(t, l, e) })
		}
	}
	wg.Wait()
	audittest.Close(t, l)
	audittest.Sound(t, conn)
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.denials"); n != 3*len(times) {
		t.Errorf("%d events of %d", n, 3*len(times))
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events_2024_02"); n != 3 {
		t.Errorf("%d events at the end of February", n)
	}
}

// TestPartitionsAhead: the next month's partition is there before it begins, from
// a writer's start on and at the last moment of a year too, and each half hour
// it is made sure of.
func TestPartitionsAhead(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	conn := audittest.Connect(t, db.URL(""))
	there := func(m time.Time) bool {
		return audittest.QueryValue[bool](t, conn, "SELECT to_regclass('audit.events_'||$1) IS NOT NULL", m.Format("2006_01"))
	}
	if now := month(time.Now()); !there(now) || !there(now.AddDate(0, 1, 0)) {
		t.Error("a writer has begun without the partitions of this and the next month")
	}
	s, err := openSession(t.Context(), connect(t, db.URL(database.Writer)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	end := time.Date(2031, 12, 31, 23, 59, 59, 0, time.UTC)
	if err := s.ensureAhead(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	if !there(end) || !there(end.Add(time.Second)) {
		t.Error("the partition of the next month is not there a second before it begins")
	}
	if often := heartbeatsPerPartitionCheck * heartbeat; often > time.Hour {
		t.Errorf("partitions are looked after every %s", often)
	}
	audittest.Close(t, l)
}

func connect(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	config, err := database.ParseConfig(url, "sallyport test of partitions")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// The month changes while the log runs, and its partition was not made ahead.
func TestPartitionDroppedWhileRunning(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	conn := audittest.Connect(t, db.URL(""))
	next := month(time.Now()).AddDate(0, 1, 0)
	if _, err := conn.Exec(t.Context(), "DROP TABLE audit.events_"+next.Format("2006_01")); err != nil {
		t.Fatal(err)
	}
	e := audittest.Decision("deny", 1)
	e.Time = next
	audittest.Record(t, l, e)
	if n := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events_"+next.Format("2006_01")); n != 1 {
		t.Errorf("%d events", n)
	}
}

// Two processes on one database do not disturb each other, and a new session of
// one does not end the other's.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	a, b := logFor(t, db.URL(database.Writer), nil), logFor(t, db.URL(database.Writer), nil)
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() { audittest.Record(t, []*Log{a, b}[n%2], audittest.Decision("allow", n)) })
	}
	wg.Wait()
	if a.Stats().Reconnects+b.Stats().Reconnects != 0 {
		t.Error("a session was lost")
	}
	audittest.Close(t, a)
	audittest.Close(t, b)
	audittest.Sound(t, audittest.Connect(t, db.URL("")))
}

func TestCancelledCallerDoesNotCancelTheRecord(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refused, ended := audittest.Decision("deny", 1), &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, CloseReason: "client_closed"}
	_ = l.Record(ctx, refused) // may be quicker than the cancellation is seen
	_ = l.Record(ctx, ended)
	audittest.Close(t, l)
	if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), "SELECT count(*) FROM audit.events WHERE kind IN ('decision', 'tunnel_closed')"); n != 2 {
		t.Errorf("%d of 2 events", n)
	}
}
