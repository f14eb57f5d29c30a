package sealer

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/readertest"
	"github.com/sallyport/sallyport/internal/database"
)

// addRegistrations adds so many events that name a key, with the login that records
// and under writers of its own, dated before every other event. One key signed all of
// them, so that each is valid.
func addRegistrations(t testing.TB, url string, events int, r *audit.Event) {
	t.Helper()
	_, attributes, _ := strings.Cut(string(r.AppendRecord(nil)), `"attributes":`)
	conn := audittest.Connect(t, url)
	audittest.MustExec(t, conn, `CREATE FUNCTION pg_temp.add(events integer, attributes text) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			name text;
			at timestamptz := now() - interval '1 hour';
		BEGIN
			FOR n IN 1 .. (events + 999) / 1000 LOOP
				PERFORM set_config('sallyport.writer_secret', 'stranger ' || n, true);
				name := lpad(to_hex(n), 12, '0') || '-' || translate(encode(substr(sha256(convert_to('stranger ' || n, 'UTF8')), 1, 16), 'base64'), '+/=', '-_');
				INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
				SELECT at, 'signing_key', name, k, convert_to(format('{"version":1,"time":"%s","kind":"signing_key","writer":"%s","writer_sequence":%s,"attributes":%s',
					to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), name, k, attributes), 'UTF8')
				FROM generate_series(1, least(1000, events - (n - 1) * 1000)) k;
			END LOOP;
		END $$`)
	audittest.MustExec(t, conn, `SELECT pg_temp.add($1, $2)`, events, attributes)
}

// keyRows traces how many events that name a key the queries of a session return.
type keyRows struct{ rows int64 }

func (k *keyRows) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, k, strings.Contains(q.SQL, isRegistration))
}

func (k *keyRows) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	if ours, _ := ctx.Value(k).(bool); ours {
		k.rows += q.CommandTag.RowsAffected()
	}
}

// oldestRegistrations reads the events that name a key as steps did before: those of
// the oldest that are not sealed.
func oldestRegistrations(s *Sealer) func(context.Context, pgx.Tx) (bool, error) {
	return func(ctx context.Context, tx pgx.Tx) (bool, error) {
		rows, err := tx.Query(ctx, `SELECT e.record FROM audit.events e WHERE e.kind = 'signing_key'
			AND NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence) ORDER BY e.time LIMIT 1000`)
		if err != nil {
			return false, err
		}
		var record []byte
		_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
			if r, ok := audit.ReadRegistration(record); ok {
				s.keys.consider(r, false, eventKey{})
			}
			return nil
		})
		return true, err
	}
}

// replaceKey is a log with 20,000 events in which a stranger names a key, whose own
// key is lost, and the sealer with the key that replaces it.
func replaceKey(t testing.TB, events int) (*attackedLog, *Sealer) {
	t.Helper()
	l := newAttackedLog(t)
	addRegistrations(t, l.db.URL(database.Writer), events, audit.Register(audittest.NewKey(t, "log.example/a"), time.Now()))
	next := audittest.NewKey(t, "log.example/a")
	audittest.Record(t, l.log, audit.Register(next, time.Now()))
	return l, sealerFor(t, l.db.URL(database.Writer), l.log, withKey(next))
}

// TestReplacedKeyAmongMany: a stranger names a key in 20,000 backdated events. The key
// that replaces a lost one seals, with bounded work at each step, and the keyring
// keeps nothing of the stranger's.
func TestReplacedKeyAmongMany(t *testing.T) {
	t.Parallel()
	const events = 20_000
	l, s := replaceKey(t, events)
	trace := &keyRows{}
	s.connect.Tracer, s.config.Batch = trace, registrationsPerStep
	steps := 0
	for more := true; more; steps++ {
		before := trace.rows
		var err error
		if more, err = s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if read := trace.rows - before; read > 2*registrationsPerStep {
			t.Fatalf("step %d read %d events that name a key", steps, read)
		}
	}
	conn := audittest.Connect(t, l.db.URL(database.Auditor))
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE e.kind = 'signing_key'`); n != events+2 {
		t.Errorf("%d events that name a key are sealed after %d steps", n, steps)
	}
	// What was read is not read again: neither in a step that seals, nor in an idle one.
	for n := range 3 {
		audittest.Record(t, l.log, audittest.Decision("allow", n))
		trace.rows = 0
		audittest.Seal(t, s)
		if trace.rows > 0 && n > 0 { // the first reads what the last step sealed
			t.Errorf("a step read %d events that name a key again", trace.rows)
		}
	}
	if k := s.keys; len(k.before)+len(k.after)+len(k.signers)+len(k.passed) > 4 {
		t.Errorf("the keyring keeps %d, %d, %d keys and %d hand-overs", len(k.before), len(k.after), len(k.signers), len(k.passed))
	}
	// Another instance, or this one after a restart, seals too.
	again := sealerFor(t, l.db.URL(database.Writer), l.log, withKey(s.config.Signer))
	audittest.Record(t, l.log, audittest.Decision("allow", 1))
	audittest.Seal(t, again)
	if st := again.Status(); st.Size != s.Status().Size+1 {
		t.Errorf("size %d, and before %d", st.Size, s.Status().Size)
	}
	r := readertest.Verify(t, l.db, audit.Trust{Keys: []audit.Key{s.config.Signer.Key()}})
	if !r.Sound() || !slices.Equal(r.Keys, []audit.Key{l.key.Key(), s.config.Signer.Key()}) {
		t.Errorf("%v, signed by %q", r.Findings, r.Keys)
	}
}

// TestReadingAllKeysIsNeeded: where a step reads the oldest 1,000 events that are not
// sealed, a stranger's backdated ones hide the event that names the next key.
func TestReadingAllKeysIsNeeded(t *testing.T) {
	t.Parallel()
	_, s := replaceKey(t, 1000)
	pages := s.readRegistrations
	s.readRegistrations = oldestRegistrations(s)
	if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Fatalf("negative control: sealed with the oldest events: %v", err)
	}
	s.readRegistrations = pages
	s.drop()
	audittest.Seal(t, s)
}

// TestKeyNamedWhileRunning: an event that names the key of a running instance is found
// among others that are not sealed, a page at each step.
func TestKeyNamedWhileRunning(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	next := audittest.NewKey(t, "log.example/a")
	s := sealerFor(t, l.db.URL(database.Writer), l.log, withKey(next))
	if err := s.Seal(t.Context()); !errors.Is(err, ErrNoKey) {
		t.Fatal(err)
	}
	addRegistrations(t, l.db.URL(database.Writer), registrationsPerStep+1, audit.Register(audittest.NewKey(t, ""), time.Now()))
	audittest.Record(t, l.log, audit.Register(next, time.Now()))
	passes := 1
	for ; s.Seal(t.Context()) != nil; passes++ {
		if passes == 3 {
			t.Fatal("not found in three passes")
		}
	}
	if passes < 2 {
		t.Errorf("one pass read everything")
	}
}

// manyRows is a part of a plan that returns more than 99 rows.
var manyRows = regexp.MustCompile(`actual rows=\d{3}`)

// TestPageReadsAnIndex: a page and the events of a step are read by an index on the
// events that name a key, whatever the statistics are.
func TestPageReadsAnIndex(t *testing.T) {
	t.Parallel()
	l := newAttackedLog(t)
	addRegistrations(t, l.db.URL(database.Writer), 20_000, audit.Register(audittest.NewKey(t, ""), time.Now()))
	audittest.Seal(t, l.sealer)
	audittest.Record(t, l.log, audit.Register(audittest.NewKey(t, ""), time.Now()))
	audittest.Seal(t, l.sealer)
	tx, err := audittest.Connect(t, l.db.URL(database.Sealer)).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			audittest.MustExec(t, audittest.Connect(t, l.db.URL("")), `ANALYZE audit.events, audit.leaves`)
		}
		for _, c := range []struct {
			sql  string
			args []any
		}{{pageSQL, []any{"", 0, 10, maxRegistration}}, {sealedSinceSQL, []any{l.sealer.Status().Size - 1, l.sealer.Status().Size, 10, maxRegistration}}} {
			var lines []string
			if err := withoutSort(t.Context(), tx, func() error {
				rows, err := tx.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) "+c.sql, c.args...)
				if err == nil {
					lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort Method") || !strings.Contains(plan, "_writer_writer_sequence_idx") || manyRows.MatchString(plan) {
				t.Errorf("analyzed %t:\n%s", analyzed, plan)
			}
		}
	}
}

// TestKeyringFollowsHandOvers: a keyring finds the keys that are connected with its own,
// in whatever order it reads, and none that a stranger names.
func TestKeyringFollowsHandOvers(t *testing.T) {
	t.Parallel()
	const origin = "log.example/a"
	first, own, third, fourth, thief := audittest.NewKey(t, origin), audittest.NewKey(t, origin), audittest.NewKey(t, origin), audittest.NewKey(t, origin), audittest.NewKey(t, origin)
	var all []audit.Registration
	add := func(e *audit.Event, err error) {
		t.Helper()
		r, ok := audit.ReadRegistration(e.AppendRecord(nil))
		if err != nil || !ok {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	add(audit.Register(first, time.Now()), nil)
	add(first.HandOver(own, time.Now()))
	add(own.HandOver(third, time.Now()))
	add(third.HandOver(fourth, time.Now()))
	add(audit.Register(thief, time.Now()), nil)
	add(thief.HandOver(audittest.NewKey(t, origin), time.Now()))
	forged := all[2]
	forged.Key = thief.Key()
	all = append(all, forged)
	for _, reversed := range []bool{false, true} {
		if reversed {
			slices.Reverse(all)
		}
		k := newKeyring(own.Key())
		for k.again = true; k.again; {
			k.again = false
			for _, r := range all {
				k.consider(r, true, eventKey{})
			}
		}
		want := []audit.Key{own.Key(), first.Key(), third.Key(), fourth.Key()}
		if got := k.keys(); !slices.Equal(got, want) || k.mayFollow(own.Key()) || !k.mayFollow(first.Key()) || k.mayFollow(third.Key()) || k.mayFollow(thief.Key()) {
			t.Errorf("reversed %t: %q", reversed, got)
		}
	}
}
