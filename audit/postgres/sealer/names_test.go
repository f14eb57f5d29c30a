package sealer

import (
	"flag"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

var strangersNames = flag.Int("names", 10_000, "how many names of writers TestManyNames makes")

// makeNames makes so many writers with the login that records, each with its first
// event; every tenth has a gap behind it. No writer has an end.
func makeNames(t testing.TB, url string, names int) {
	t.Helper()
	conn := audittest.Connect(t, url)
	audittest.MustExec(t, conn, `CREATE FUNCTION pg_temp.make(names integer) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			name text;
		BEGIN
			FOR n IN 1 .. names LOOP
				PERFORM set_config('sallyport.writer_secret', 'secret ' || n, true);
				name := lpad(to_hex(n), 12, '0') || '-' || translate(encode(substr(sha256(convert_to('secret ' || n, 'UTF8')), 1, 16), 'base64'), '+/=', '-_');
				INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT now(), 'admin', name, k, convert_to(format('{"version":1,"time":"%s","kind":"admin","writer":"%s","writer_sequence":%s,"attributes":{}}',
					to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), name, k), 'UTF8')
				FROM (VALUES (1), (3)) v(k) WHERE k = 1 OR n % 10 = 0;
			END LOOP;
		END $$`)
	audittest.MustExec(t, conn, `SELECT pg_temp.make($1)`, names)
}

// TestManyNames: the login that records makes many names of writers. The events of a
// live writer are sealed by the next step all the same, no step surveys more writers
// than its bound, and no step records more than some of them as lost.
func TestManyNames(t *testing.T) {
	t.Parallel()
	names := *strangersNames
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, func(c *Config) { c.Signer, c.LostAfter = audittest.NewKey(t, ""), time.Nanosecond })
	audittest.Seal(t, s)
	makeNames(t, db.URL(database.Writer), names)
	s.drop() // whatever was read before, and as after a restart
	conn := audittest.Connect(t, db.URL(database.Auditor))
	isSealed := func(e *audit.Event) bool {
		return audittest.QueryValue[bool](t, conn, `SELECT EXISTS (SELECT FROM audit.leaves WHERE writer = $1 AND writer_sequence = $2)`, e.Writer, e.WriterSequence)
	}
	steps, passes := 0, 0
	for all := false; !all; passes++ {
		if passes > 2*names/(defaultWritersPerStep*maxPassSteps)+4 {
			t.Fatalf("after %d passes the other writers are not sealed: %d leaves", passes, s.Status().Size)
		}
		s.passSteps = 0
		for more := true; more; steps++ {
			e := audittest.Decision("allow", steps)
			if steps%10 == 0 {
				audittest.Record(t, l, e)
			}
			var err error
			if more, err = s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if steps%10 == 0 && !isSealed(e) {
				t.Fatalf("step %d has not sealed the event of a live writer", steps)
			}
			if n := len(s.writers.surveyed); n > 3*defaultWritersPerStep {
				t.Fatalf("step %d surveyed %d writers", steps, n)
			}
		}
		all = audittest.QueryValue[int64](t, conn, `SELECT count(*) FROM audit.leaves WHERE writer < '1'`) >= int64(names)
	}
	lost := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'writer_lost'`)
	if lost == 0 || lost > maxLostPerStep*steps {
		t.Errorf("%d events of kind writer_lost in %d steps", lost, steps)
	}
	if st := s.Status(); len(st.Findings) != maxBlockedFindings+1 || st.UnsealedSince.IsZero() {
		t.Errorf("%d findings, unsealed since %s", len(st.Findings), st.UnsealedSince)
	}
	t.Logf("%d steps in %d passes", steps, passes)
}

// TestTurnsAreNeeded: without turns one step surveys every name that the login has
// made. Without a share for live writers those names keep a live writer waiting.
func TestTurnsAreNeeded(t *testing.T) {
	t.Parallel()
	const names = 3000
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.Seal(t, s)
	makeNames(t, db.URL(database.Writer), names)
	for n := range 50 {
		audittest.Record(t, l, audittest.Decision("allow", n))
	}
	s.drop()
	s.writersPerStep, s.config.Batch = 1_000_000, 200
	waiting := func() int64 {
		return audittest.QueryValue[int64](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events e WHERE writer = $1
			AND NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`, l.Writer())
	}
	s.shares = divide
	if _, err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(s.writers.surveyed) < names || waiting() == 0 {
		t.Errorf("negative control: %d writers surveyed, %d events of the live one wait", len(s.writers.surveyed), waiting())
	}
	s.shares = shares
	if _, err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n > 0 {
		t.Errorf("with their own share %d events of the live writer wait", n)
	}
}
