package sealer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// agedLog is a log with events of two months that are old enough to be removed,
// of one that is not, and of now, each sealed at its time.
type agedLog struct {
	db     *pgtest.DB
	log    *auditwriter.Log
	sealer *Sealer
	key    *audit.Signer
	old    [2]time.Time // the first days of the months
	young  time.Time
	events int64 // in each of them
}

func aged(t testing.TB) *agedLog {
	t.Helper()
	a := &agedLog{db: audittest.Migrated(t), key: audittest.NewKey(t, ""), events: 30}
	audittest.Backdate(t, a.admin(t))
	a.log = writertest.Open(t, a.db.URL(database.Writer), nil)
	a.sealer = sealerFor(t, a.db.URL(database.Writer), a.log, withKey(a.key))
	a.old = [2]time.Time{audittest.OldMonth(), audittest.FirstOfMonth(time.Now().AddDate(0, -17, 0))}
	a.young = audittest.FirstOfMonth(time.Now().AddDate(0, -6, 0))
	for _, first := range []time.Time{a.old[0], a.old[1], a.young} {
		a.fill(t, first, first.AddDate(0, 1, 0))
	}
	a.sealer.now = time.Now
	audittest.Record(t, a.log, audittest.Decision("deny", 1))
	audittest.Seal(t, a.sealer)
	return a
}

// fill records the events of a month, and seals them at a time.
func (a *agedLog) fill(t testing.TB, first, sealed time.Time) {
	t.Helper()
	a.sealer.now = func() time.Time { return sealed }
	audittest.SealMonth(t, a.log, a.sealer, first, a.events)
}

func (a *agedLog) admin(t testing.TB) *pgx.Conn { return audittest.Connect(t, a.db.URL("")) }

func (a *agedLog) retention(t testing.TB) *Retention {
	t.Helper()
	r, err := OpenRetention(t.Context(), a.db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func (a *agedLog) verify(t testing.TB) *audit.Report {
	t.Helper()
	note := audittest.QueryValue[string](t, a.admin(t), `SELECT note FROM audit.checkpoints ORDER BY number DESC LIMIT 1`)
	return readertest.Verify(t, a.db, audit.Trust{Keys: []audit.Key{a.key.Key()}, Notes: [][]byte{[]byte(note)}})
}

// expired expects a sound log from which so many events were removed.
func (a *agedLog) expired(t testing.TB, want int64) {
	t.Helper()
	r := a.verify(t)
	for _, f := range r.Findings {
		t.Errorf("a sound log is accused: %s", f)
	}
	if r.Expired != want || r.Unsealed != 0 {
		t.Errorf("%d expired and %d not sealed, want %d and 0", r.Expired, r.Unsealed, want)
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	a := aged(t)
	admin, r := a.admin(t), a.retention(t)
	leaves := audittest.QueryValue[string](t, admin, `SELECT encode(sha256(string_agg(hash, '' ORDER BY index)), 'hex') FROM audit.leaves`)
	a.expired(t, 0)

	months, err := r.Months(t.Context(), audit.DefaultKeepDays)
	if err != nil {
		t.Fatal(err)
	}
	if len(months) != 2 || !months[0].Month.Equal(a.old[0]) || months[0].Refusal != "" || months[0].Events != a.events+1 || months[0].Removed != a.events ||
		!months[0].SealedBy.Equal(a.old[1]) {
		t.Fatalf("%+v", months)
	}
	// The digest can be made from what is left, and from an export of before.
	recordOf := func(number int64) []byte {
		return audittest.QueryValue[[]byte](t, admin, `SELECT record FROM audit.events WHERE writer = 'database' AND writer_sequence = $1`, number)
	}
	digest := sha256.New().Sum(nil)
	digest = digest[:0]
	for _, hash := range audittest.QueryStrings(t, admin, `SELECT encode(l.hash, 'hex') FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence)
		WHERE e.kind = 'decision' AND e.time >= $1 AND e.time < $2 ORDER BY l.index`, a.old[0], a.old[1]) {
		raw, _ := hex.DecodeString(hash)
		next := sha256.Sum256(append(digest, raw...))
		digest = next[:]
	}
	for i, first := range a.old {
		number, err := r.Expire(t.Context(), first, audit.DefaultKeepDays)
		if err != nil || number != int64(i+1) {
			t.Fatal(number, err)
		}
		if again, err := r.Expire(t.Context(), first, audit.DefaultKeepDays); again != 0 || err != nil {
			t.Fatalf("again: %d, %v", again, err)
		}
	}
	said := audittest.AttributesOf(t, recordOf(1))
	if said["digest"] != "sha256:"+hex.EncodeToString(digest) || said["month"] != a.old[0].Format("2006-01") || said["events"] != "30" || said["stayed"] != "1" || said["login"] == "" {
		t.Errorf("%v", said)
	}
	if second := again(t, recordOf(2)); !bytes.Equal(second, recordOf(2)) {
		t.Errorf("%s", second)
	}
	from, to, _ := strings.Cut(said["leaves"], "-")
	if left := audittest.QueryValue[string](t, admin, `SELECT 'sha256:' || encode(audit.chain(l.hash ORDER BY l.index), 'hex') FROM audit.leaves l
		WHERE l.index BETWEEN $1::text::bigint AND $2::text::bigint
		  AND NOT EXISTS (SELECT FROM audit.events e WHERE e.writer = l.writer AND e.writer_sequence = l.writer_sequence)`, from, to); left != said["digest"] {
		t.Errorf("the digest over the leaves that are left is %s, and the event says %s", left, said["digest"])
	}

	// What is not sealed yet accounts for nothing; then it does.
	if r := a.verify(t); r.Counts[audit.DamageMissing] != 2*a.events {
		t.Errorf("before its event is sealed: %+v", r.Counts)
	}
	audittest.Seal(t, a.sealer)
	a.expired(t, 2*a.events)
	if report := a.verify(t); len(report.Retentions) != 2 || report.Retentions[0].Found != a.events || report.Retentions[1].Month != a.old[1].Format("2006-01") {
		t.Errorf("%+v", report.Retentions)
	}
	if report := a.verifyExport(t); !report.Sound() || report.Expired != 2*a.events {
		t.Errorf("from an export: %+v", report)
	}
	if now := audittest.QueryValue[string](t, admin, `SELECT encode(sha256(string_agg(hash, '' ORDER BY index) FILTER (WHERE index < $1)), 'hex') FROM audit.leaves`, 2+3*(a.events+1)+1); now != leaves {
		t.Error("leaves were changed")
	}
	if n := audittest.QueryValue[int64](t, admin, `SELECT sum(missing) FROM audit.writers`); n != 0 {
		t.Errorf("%d missing", n)
	}
	if n := audittest.QueryValue[int64](t, admin, `SELECT expired FROM audit.writers WHERE writer = $1`, a.log.Writer()); n != 2*a.events {
		t.Errorf("%d expired", n)
	}

	// The partition is one like any other: it takes what comes late, and gives
	// nothing away.
	late := audittest.Decision("deny", 1)
	late.Time = a.old[0].Add(time.Hour)
	a.sealer.now = func() time.Time { return time.Now().AddDate(0, -15, 0) }
	audittest.Record(t, a.log, late)
	audittest.Seal(t, a.sealer)
	partition := "audit.events_" + a.old[0].Format("2006_01")
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM `+partition); n != 2 {
		t.Errorf("%d events", n)
	}
	if _, err := admin.Exec(t.Context(), `DELETE FROM `+partition); audittest.SQLState(err) != "23001" {
		t.Errorf("%v", err)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM pg_trigger WHERE tgrelid = '`+partition+`'::regclass AND tgenabled = 'A'`); n != 4 {
		t.Errorf("%d triggers", n)
	}
	if text := audittest.QueryValue[string](t, admin, `SELECT refusal FROM audit.check_month($1)`, a.old[0]); !strings.Contains(text, "sealed as late as") {
		t.Errorf("%q: an old clock in the event is not enough", text)
	}
}

// verifyExport exports the log, and verifies that.
func (a *agedLog) verifyExport(t testing.TB) *audit.Report {
	t.Helper()
	r, err := auditreader.Open(t.Context(), a.db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var export bytes.Buffer
	x := audit.NewExporter(&export)
	if err := r.Walk(t.Context(), x, nil); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := audit.NewVerification(audit.Trust{Keys: []audit.Key{a.key.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadExport(&export, nil); err != nil {
		t.Fatal(err)
	}
	return v.Report()
}

// TestExpireRefuses: what is young, not sealed, held or not what was sealed
// stays, whatever login calls.
func TestExpireRefuses(t *testing.T) {
	t.Parallel()
	a := aged(t)
	admin, r := a.admin(t), a.retention(t)
	first := a.old[0]
	refused := func(what string, month time.Time, keepDays int, want string) {
		t.Helper()
		if n, err := r.Expire(t.Context(), month, keepDays); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	refused("less than a year", first, 365, "kept for 366 days at least")
	refused("less than nothing", first, -1, "kept for 366 days at least")
	refused("a day", first.AddDate(0, 0, 1), 400, "whole months")
	refused("a young month", a.young, 366, "days ago")
	refused("more than is asked for", first, 3000, "days ago")
	refused("a month that is not there", first.AddDate(-1, 0, 0), 400, "no partition")

	// Holds.
	auditor, err := OpenRetention(t.Context(), a.db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer auditor.Close()
	hold, err := auditor.SetHold(t.Context(), first.AddDate(0, -3, 0), first, "case 17, \"the\" \\ leak")
	if err != nil || hold != 1 {
		t.Fatal(hold, err)
	}
	refused("held", first, 400, "hold 1 keeps it")
	if err := auditor.LiftHold(t.Context(), hold, "over"); err == nil || !strings.Contains(err.Error(), "may not") {
		t.Errorf("an auditor lifts a hold: %v", err)
	}
	if err := r.LiftHold(t.Context(), 7, "over"); err == nil || !strings.Contains(err.Error(), "no hold 7") {
		t.Error(err)
	}
	if err := r.LiftHold(t.Context(), hold, "over"); err != nil {
		t.Error(err)
	}
	if err := r.LiftHold(t.Context(), hold, "over"); err == nil {
		t.Error("lifted twice")
	}
	holds, err := auditor.Holds(t.Context())
	if err != nil || len(holds) != 1 || holds[0].Reason != "case 17, \"the\" \\ leak" || holds[0].SetBy != "sallyport_auditor" || holds[0].LiftedBecause != "over" || holds[0].LiftedAt.IsZero() {
		t.Errorf("%+v, %v", holds, err)
	}
	for _, bad := range []func() error{
		func() error { _, err := r.SetHold(t.Context(), first, first.AddDate(0, 0, -1), "x"); return err },
		func() error { _, err := r.SetHold(t.Context(), first, first, ""); return err },
		func() error { _, err := r.SetHold(t.Context(), first, first, strings.Repeat("x", 2001)); return err },
	} {
		if err := bad(); err == nil || !strings.Contains(err.Error(), "a hold has") {
			t.Error(err)
		}
	}

	// Not sealed; sealed, but of late.
	e := audittest.Decision("deny", 1)
	e.Time = first.Add(time.Hour)
	audittest.Record(t, a.log, e)
	refused("not sealed", first, 400, "1 of its events are not sealed")
	audittest.Seal(t, a.sealer)
	refused("sealed of late", first, 400, "sealed as late as")

	// Not what was sealed, or there twice.
	audittest.DisableTriggers(t, admin)
	second := a.old[1]
	partition := "audit.events_" + second.Format("2006_01")
	if _, err := admin.Exec(t.Context(), `UPDATE `+partition+` SET message = coalesce(message, '') || 'x' WHERE kind = 'decision' AND verdict = 'deny'`); err != nil {
		t.Fatal(err)
	}
	refused("changed", second, 400, "15 of its events are not what was sealed")
	if n := audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM `+partition); n != a.events+1 {
		t.Errorf("%d events", n)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM audit.events WHERE kind = 'retention'`); n != 0 {
		t.Errorf("%d retention events", n)
	}
}

// wantsAll is who waits for the whole of the log. Databases that are copies of one
// another have the same object ids.
const wantsAll = `NOT granted AND mode = 'AccessExclusiveLock' AND relation = 'audit.events'::regclass
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// TestExpireBesideInserts: while a session reads the log for long, writers wait for no
// longer than the lock's timeout; then the month is removed.
func TestExpireBesideInserts(t *testing.T) {
	t.Parallel()
	a := aged(t)
	admin, reader := a.admin(t), audittest.Connect(t, a.db.URL(database.Auditor))
	tx, err := reader.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM audit.events`); err != nil {
		t.Fatal(err)
	}
	var slowest atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := time.Now()
				if err := a.log.Record(context.Background(), audittest.Decision("deny", n)); err != nil {
					t.Error(err)
					return
				}
				took := int64(time.Since(before))
				for was := slowest.Load(); took > was && !slowest.CompareAndSwap(was, took); was = slowest.Load() {
				}
			}
		})
	}
	done := a.expiring(t)
	waits := func() bool {
		return audittest.QueryValue[bool](t, admin, `SELECT EXISTS (SELECT FROM pg_locks WHERE `+wantsAll+`)`)
	}
	for range 2 { // it gives up, and tries again
		audittest.Eventually(t, "retention waits", waits)
		audittest.Eventually(t, "retention gives way", func() bool { return !waits() })
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if took := time.Duration(slowest.Load()); took < 200*time.Millisecond || took > 5*time.Second {
		t.Errorf("the slowest record took %s: the lock's timeout is 300 ms, and the test has to see it", took)
	}
	audittest.Seal(t, a.sealer)
	a.expired(t, a.events)
}

// TestExpireAlone: of two that come at once, one takes the month.
func TestExpireAlone(t *testing.T) {
	t.Parallel()
	a := aged(t)
	first := audittest.Connect(t, a.db.URL(""))
	tx, err := first.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT audit.expire($1)`, a.old[0]); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`SELECT audit.expire($1)`, `SELECT audit.set_hold($1, $1, 'x')`} {
		if _, err := a.admin(t).Exec(t.Context(), sql, a.old[0]); audittest.SQLState(err) != "55P03" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, a.sealer)
	a.expired(t, a.events)
}

// TestExpireAndLateEvents: an event that comes while the month is read stays,
// and so does the month.
func TestExpireAndLateEvents(t *testing.T) {
	t.Parallel()
	a := aged(t)
	admin := a.admin(t)
	blocker := audittest.Connect(t, a.db.URL(database.Auditor))
	tx, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Retention has read the month when it wants its number.
	if _, err := tx.Exec(t.Context(), recordExport, "query", "{}", 1, nothing[:], "test"); err != nil {
		t.Fatal(err)
	}
	done := a.expiring(t)
	audittest.Eventually(t, "retention waits for its number", func() bool {
		return audittest.QueryValue[bool](t, admin, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid')`)
	})
	e := audittest.Decision("allow", 1)
	e.Time = a.old[0].Add(time.Hour)
	audittest.Record(t, a.log, e)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; audittest.SQLState(err) != "40001" {
		t.Errorf("%v", err)
	}
	if n := audittest.QueryValue[int64](t, admin, `SELECT count(*) FROM audit.events WHERE time < $1`, a.old[1]); n != a.events+2 {
		t.Errorf("%d events are left", n)
	}
}

// expiring runs retention in a session of its own.
func (a *agedLog) expiring(t testing.TB) <-chan error {
	t.Helper()
	conn, done := a.admin(t), make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), `SELECT audit.expire($1)`, a.old[0])
		done <- err
	}()
	return done
}

// TestExpireCutOff: who is cut off in the middle has done nothing.
func TestExpireCutOff(t *testing.T) {
	t.Parallel()
	a := aged(t)
	admin, reader := a.admin(t), audittest.Connect(t, a.db.URL(database.Auditor))
	tx, err := reader.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT count(*) FROM audit.events`); err != nil {
		t.Fatal(err)
	}
	done := a.expiring(t)
	audittest.Eventually(t, "retention is ended while it waits", func() bool {
		return audittest.QueryValue[int](t, admin, `SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_locks WHERE `+wantsAll+`) p`) > 0
	})
	if err := <-done; err == nil {
		t.Error("it did not notice")
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.expired(t, 0)
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM pg_class WHERE relname LIKE '%remnant%'`); n != 0 {
		t.Errorf("%d tables are left over", n)
	}
	if _, err := a.retention(t).Expire(t.Context(), a.old[0], audit.DefaultKeepDays); err != nil {
		t.Error(err)
	}
	audittest.Seal(t, a.sealer)
	a.expired(t, a.events)
}

// TestForgedRetention: a superuser who drops a partition by hand, and writes the
// event that retention would have written, is found.
func TestForgedRetention(t *testing.T) {
	t.Parallel()
	const forge = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), 'retention', 'database', 1, convert_to('{"version":1,"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') ||
		'","kind":"retention","writer":"database","writer_sequence":1,"attributes":{"month":"2025-01","events":"30","leaves":"' || $1 || '"}}', 'UTF8')`
	for _, c := range []struct {
		name  string
		young bool
		event bool
		want  map[audit.Damage]int64
	}{
		{"an old month without an event", false, false, map[audit.Damage]int64{audit.DamageMissing: 31}},
		{"a young month without an event", true, false, map[audit.Damage]int64{audit.DamageMissing: 31}},
		{"a young month with an event", true, true, map[audit.Damage]int64{audit.DamageMissing: 31, audit.DamageRetention: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := aged(t)
			admin := a.admin(t)
			first := a.old[0]
			if c.young {
				first = a.young
			}
			leaves := audittest.QueryValue[string](t, admin, `SELECT min(l.index) || '-' || max(l.index) FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence)
				WHERE e.time >= $1 AND e.time < $2`, first, first.AddDate(0, 1, 0))
			audittest.DisableTriggers(t, admin)
			if _, err := admin.Exec(t.Context(), `DROP TABLE audit.events_`+first.Format("2006_01")); err != nil {
				t.Fatal(err)
			}
			if c.event {
				if _, err := admin.Exec(t.Context(), forge, leaves); err != nil {
					t.Fatal(err)
				}
			}
			audittest.Seal(t, a.sealer)
			r := a.verify(t)
			if r.Expired != 0 || len(r.Counts) != len(c.want) {
				t.Errorf("%d expired, %v", r.Expired, r.Findings)
			}
			for damage, n := range c.want {
				if r.Counts[damage] != n {
					t.Errorf("%s: %d, want %d", damage, r.Counts[damage], n)
				}
			}
		})
	}
}
