package sealer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/database"
)

// thinLog is a log with a checkpoint every ten minutes for three hours, ten days ago,
// and some of today. Its checkpoints were put in as the superuser,
// because the database refuses a time of signing that is days from its own.
type thinLog struct {
	*sealedLog
	begin time.Time
}

func newThinLog(t *testing.T) *thinLog {
	t.Helper()
	f := &thinLog{sealedLog: newSealedLog(t), begin: time.Now().Add(-240 * time.Hour).UTC().Truncate(time.Hour)}
	admin := audittest.Connect(t, f.db.URL(""))
	if _, err := admin.Exec(t.Context(), `CREATE OR REPLACE FUNCTION audit.check_checkpoint_time(at timestamptz) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'`); err != nil {
		t.Fatal(err)
	}
	now := f.begin
	f.sealer.now = func() time.Time { return now }
	f.sealer.config.HeartbeatInterval = time.Minute
	for n := range 18 {
		now = f.begin.Add(time.Duration(n) * 10 * time.Minute)
		audittest.Record(t, f.log, audittest.Decision("allow", n+10))
		audittest.Seal(t, f.sealer)
	}
	now = time.Now()
	audittest.Record(t, f.log, audittest.Decision("allow", 99))
	audittest.Seal(t, f.sealer)
	return f
}

func (f *thinLog) retention(t *testing.T) *Retention {
	t.Helper()
	r, err := OpenRetention(t.Context(), f.db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// TestThinCheckpoints: of old checkpoints the first and the last of each hour stay; the log, proofs and what was published hold as before.
func TestThinCheckpoints(t *testing.T) {
	t.Parallel()
	f := newThinLog(t)
	place := f.sealer.places[0].publisher.(*audittest.Shelf)
	audittest.Eventually(t, "all is published", func() bool { return f.sealer.Status().Places[0].Size == f.sealer.Status().Size })
	conn := audittest.Connect(t, f.db.URL(database.Auditor))
	before := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.checkpoints`)
	r := f.retention(t)
	for _, dry := range []bool{true, false} {
		if n, err := r.ThinCheckpoints(t.Context(), dry); err != nil || n != 12 {
			t.Fatalf("%d thinned, %v", n, err)
		}
		if dry && audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.checkpoints`) != before {
			t.Fatal("a dry run took some away")
		}
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.checkpoints`); n != before-12 {
		t.Errorf("%d of %d checkpoints stay", n, before)
	}
	stays := audittest.QueryStrings(t, conn, `SELECT to_char(time AT TIME ZONE 'UTC', 'HH24:MI') FROM audit.checkpoints WHERE time < now() - interval '7 days' ORDER BY number`)
	var want []string
	for _, minutes := range []time.Duration{0, 50, 60, 110, 120, 170} {
		want = append(want, f.begin.Add(minutes*time.Minute).Format("15:04"))
	}
	if got := strings.Join(stays, " "); got != strings.Join(want, " ") {
		t.Errorf("%s stay, want %s", got, want)
	}
	if n, err := r.ThinCheckpoints(t.Context(), false); err != nil || n != 0 {
		t.Errorf("a second time: %d, %v", n, err)
	}
	audittest.Seal(t, f.sealer)
	report := readertest.Verify(t, f.db, audit.Trust{Keys: []audit.Key{f.key.Key()}, Notes: place.All()})
	if !report.Sound() || report.Anchored.Size < 20 || report.Lateness.Count > 0 {
		t.Errorf("%v, anchored at %d, %d late", report.Findings, report.Anchored.Size, report.Lateness.Count)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'checkpoints_thinned' AND writer = 'database'`); n != 1 {
		t.Errorf("%d events say so", n)
	}
	proves(t, f)
}

// proves expects that every sealed event has a proof.
func proves(t *testing.T, f *thinLog) {
	t.Helper()
	reader, err := auditreader.Open(t.Context(), f.db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for n := int64(1); n <= 20; n++ {
		p, err := reader.Prove(t.Context(), f.log.Writer(), n, auditreader.First)
		if err != nil {
			t.Fatal(err)
		}
		c, err := audit.ReadCheckpoint(p.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		if err := audit.CheckInclusion(p.Hashes, c.Size, c.Root, p.Index, p.Leaf); err != nil {
			t.Errorf("event %d: %v", n, err)
		}
	}
}

// TestThinningRemovesNoEvidence: no login uses it to take away what it may not, and
// the owner, with the triggers on, only what thins out.
func TestThinningRemovesNoEvidence(t *testing.T) {
	t.Parallel()
	f := newThinLog(t)
	admin := audittest.Connect(t, f.db.URL(""))
	numbers := func(where string) string {
		return "ARRAY(SELECT number FROM audit.checkpoints WHERE " + where + ")"
	}
	const old = "time < now() - interval '7 days'"
	for _, user := range []string{database.Writer, database.Sealer, database.Auditor} {
		conn := audittest.Connect(t, f.db.URL(""))
		for _, sql := range []string{"SELECT audit.thin_checkpoints(" + numbers(old) + ")", "DELETE FROM audit.checkpoints", "SET sallyport.thinning = 'on'; DELETE FROM audit.checkpoints WHERE number = 3"} {
			if _, err := conn.Exec(t.Context(), "RESET sallyport.thinning; RESET ROLE; SET ROLE "+user+"; "+sql); audittest.SQLState(err) != "42501" {
				t.Errorf("%s: %s: %v", user, sql, err)
			}
		}
	}
	if _, err := admin.Exec(t.Context(), "SET ROLE sallyport_owner"); err != nil {
		t.Fatal(err)
	}
	for what, where := range map[string]string{
		"the last of an hour":   "number = (SELECT max(number) FROM audit.checkpoints WHERE " + old + ")",
		"the first of an hour":  "number = (SELECT min(number) FROM audit.checkpoints WHERE " + old + ")",
		"all":                   "true",
		"all old ones":          old,
		"one of today":          "number = (SELECT max(number) FROM audit.checkpoints)",
		"one hour with its end": old + fmt.Sprintf(" AND time < '%s'", f.begin.Add(time.Hour).Format(time.RFC3339)),
	} {
		for _, sql := range []string{"SELECT audit.thin_checkpoints(" + numbers(where) + ")", "SET sallyport.thinning = 'on'; DELETE FROM audit.checkpoints WHERE " + where,
			"RESET sallyport.thinning; DELETE FROM audit.checkpoints WHERE " + where} {
			if _, err := admin.Exec(t.Context(), sql); audittest.SQLState(err) != "23001" {
				t.Errorf("%s: %s: %v", what, sql, err)
			}
		}
	}
	if _, err := admin.Exec(t.Context(), "SET sallyport.thinning = 'on'; UPDATE audit.checkpoints SET time = now()"); audittest.SQLState(err) != "23001" {
		t.Errorf("an update: %v", err)
	}
}

// TestThinRuleIsNeeded: without the rule in the trigger the owner takes away the last
// checkpoint of an hour.
func TestThinRuleIsNeeded(t *testing.T) {
	t.Parallel()
	f := newThinLog(t)
	admin := audittest.Connect(t, f.db.URL(""))
	if _, err := admin.Exec(t.Context(), `SET ROLE sallyport_owner; CREATE OR REPLACE FUNCTION audit.is_thinnable(checkpoint bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		SELECT audit.thin_checkpoints(ARRAY(SELECT number FROM audit.checkpoints WHERE time < now() - interval '7 days'))`); err != nil {
		t.Fatal(err)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM audit.checkpoints WHERE time < now() - interval '7 days'`); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// TestForgedCheckpointsThinNothingOut: a login that may seal, and has no key, cannot
// have a valid checkpoint taken away by adding its own in the same hour.
func TestForgedCheckpointsThinNothingOut(t *testing.T) {
	t.Parallel()
	f := newThinLog(t)
	admin := audittest.Connect(t, f.db.URL(""))
	forged := f.begin.Add(59 * time.Minute)
	if _, err := admin.Exec(t.Context(), `ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;
		UPDATE audit.checkpoints SET number = number + 1000 WHERE time >= '`+f.begin.Add(time.Hour).Format(time.RFC3339)+`';
		INSERT INTO audit.checkpoints SELECT number + 1, size, '`+forged.Format(time.RFC3339)+`', root, frontier,
			replace(note, to_char(time AT TIME ZONE 'UTC', '"time "YYYY-MM-DD"T"HH24:MI:SS"Z"'), '`+forged.Format("time 2006-01-02T15:04:05Z")+`')
			FROM audit.checkpoints WHERE time = '`+f.begin.Add(50*time.Minute).Format(time.RFC3339)+`';
		ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER refuse_change; ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER refuse_row_change`); err != nil {
		t.Fatal(err)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM audit.checkpoints WHERE time = $1`, forged); n != 1 {
		t.Fatalf("%d forged checkpoints", n)
	}
	if _, err := f.retention(t).ThinCheckpoints(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if n := audittest.QueryValue[int](t, admin, `SELECT count(*) FROM audit.checkpoints WHERE time IN ($1, $2)`, forged, f.begin.Add(50*time.Minute)); n != 2 {
		t.Errorf("%d of the forged and the valid checkpoint are left", n)
	}
}
