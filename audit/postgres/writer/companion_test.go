package writer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// withChanges makes the table that the companions of these tests change.
func withChanges(t testing.TB, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	admin := audittest.Connect(t, db.URL(""))
	audittest.MustExec(t, admin, `CREATE TABLE public.changes (id uuid PRIMARY KEY, n bigint CHECK (n >= 0), body bytea, twice bigint GENERATED ALWAYS AS IDENTITY);
		GRANT SELECT, INSERT, UPDATE ON public.changes TO sallyport_writer`)
	return admin
}

func statement(sql string, args ...any) audit.SQLStatement {
	return audit.SQLStatement{SQL: sql, Args: args}
}

// received is an event with a companion that adds a row under the event's id.
func received(n int64, more ...audit.SQLStatement) (*audit.Event, audit.Companion) {
	e := audittest.Decision("deny", int(n))
	e.Kind, e.Action = audit.KindWebhookReceived, "webhook"
	id := e.DecisionID
	return e, audit.Companion{
		Statements: append([]audit.SQLStatement{statement(`INSERT INTO public.changes (id, n, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, id, n, []byte("a\x00b"))}, more...),
		Applied:    statement(`SELECT FROM public.changes WHERE id = $1`, id),
		Void: func(err error) *audit.Event {
			cause := "refused"
			switch {
			case errors.Is(err, audit.ErrNoEffect):
				cause = "no effect"
			case errors.Is(err, ErrUnavailable):
				cause = "unavailable"
			}
			return &audit.Event{Kind: audit.KindWebhookUnqueued, DecisionID: id, CloseReason: cause}
		},
	}
}

// checkCompanions is the oracle: an event has its row or an event of its absence, a row has
// its event, and neither is there twice. It returns what contradicts that.
func checkCompanions(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return audittest.QueryStrings(t, conn, `
		WITH e AS (SELECT decision_id AS id, count(*) AS n FROM audit.events WHERE kind = 'webhook_received' GROUP BY 1),
		     v AS (SELECT decision_id AS id, count(*) AS n, bool_and(close_reason = 'unavailable') AS unknown FROM audit.events WHERE kind = 'webhook_unqueued' GROUP BY 1)
		SELECT concat_ws(' ', coalesce(e.id, c.id, v.id), 'events', e.n, 'rows', c.n, 'void', v.n)
		FROM e FULL JOIN (SELECT id, count(*) AS n FROM public.changes GROUP BY 1) c USING (id) FULL JOIN v USING (id)
		WHERE e.n IS DISTINCT FROM 1 OR coalesce(v.n, 0) > 1
		   OR c.n IS NULL AND v.n IS NULL OR c.n IS NOT NULL AND v.n IS NOT NULL AND NOT v.unknown`)
}

// The connection is cut at many points of the request and of the answer, with events that
// have companions and others in one group.
func TestCompanionThroughFaults(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := withChanges(t, db)
	p, through := throughFaults(t, db)
	l := logFor(t, through, nil)
	seen := newTally()
	const rounds = 64
	for round := range rounds {
		p.at.Store(int32(1 + round*61)) // bytes of the request
		p.skip.Store(int32(round % 9))  // messages of the answer
		p.mode.Store([]int32{cutInAnswer, cutBefore, cutAfter}[round%3])
		var wg sync.WaitGroup
		for n := range 1 + round%7 {
			wg.Go(func() {
				if n%3 == 2 {
					if err := l.Record(t.Context(), audittest.Decision("allow", n)); err != nil {
						t.Error(err)
					}
					return
				}
				e, with := received(int64(n))
				id := e.DecisionID
				if err := l.RecordWith(t.Context(), e, with); err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				seen.acknowledge(id)
			})
		}
		wg.Wait()
	}
	p.mode.Store(pass)
	if l.Stats().Reconnects < rounds/2 {
		t.Errorf("only %d connections were cut", l.Stats().Reconnects)
	}
	audittest.Close(t, l)
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM public.changes WHERE id = ANY($1::uuid[])`, seen.ids); n != seen.len() {
		t.Errorf("%d of %d acknowledged rows are there", n, seen.len())
	}
}

// crashWith kills PostgreSQL and the writer under a load of events with companions.
func crashWith(t *testing.T, record func(*Log, *pgx.Conn, *audit.Event, audit.Companion) error) (acknowledged, missing int, wrong []string) {
	t.Helper()
	server, db := pgtest.StartFrom(t, pgtest.Options{}, "sallyport", audittest.Migrate)
	withChanges(t, db)
	seen := newTally()
	for range 2 {
		l := logFor(t, db.URL(database.Writer), func(c *Config) { c.Log = nil; c.Deadline = 10 * time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n := range int64(8) {
			own := audittest.Connect(t, db.URL(database.Writer))
			wg.Go(func() {
				for ctx.Err() == nil {
					e, with := received(n)
					id := e.DecisionID
					if record(l, own, e, with) == nil {
						seen.acknowledge(id)
					}
				}
			})
		}
		before := seen.len()
		audittest.Eventually(t, "progress", func() bool { return seen.len() > before+50 })
		server.Kill(t)
		kill(l)
		cancel()
		wg.Wait()
		server.Restart(t)
	}
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	return seen.len(), seen.len() - audittest.QueryValue[int](t, conn, `SELECT count(*) FROM public.changes WHERE id = ANY($1::uuid[])`, seen.ids), checkCompanions(t, conn)
}

func TestCompanionThroughCrashes(t *testing.T) {
	t.Parallel()
	acknowledged, missing, wrong := crashWith(t, func(l *Log, _ *pgx.Conn, e *audit.Event, with audit.Companion) error {
		return l.RecordWith(t.Context(), e, with)
	})
	if missing+len(wrong) > 0 {
		t.Errorf("of %d acknowledged rows %d are missing; events without their row, or rows without their event: %q", acknowledged, missing, wrong)
	}
}

// The negative control: the companion in a transaction of its own is caught by the same
// oracle.
func TestOneTransactionIsNeeded(t *testing.T) {
	t.Parallel()
	_, _, wrong := crashWith(t, func(l *Log, own *pgx.Conn, e *audit.Event, with audit.Companion) error {
		s := with.Statements[0]
		if err := l.Record(t.Context(), e); err != nil {
			return err
		}
		_, err := own.Exec(t.Context(), s.SQL, s.Args...)
		return err
	})
	if len(wrong) == 0 {
		t.Error("a companion in a second transaction went unnoticed: the test proves nothing")
	}
}

// A refused companion does not stop the log, and keeps neither its event nor the others of
// the group from being recorded.
func TestCompanionIsRefused(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := withChanges(t, db)
	l := logFor(t, db.URL(database.Writer), nil)
	held := audittest.Connect(t, db.URL(""))
	e, with := received(1)
	lockedID := e.DecisionID
	if err := l.RecordWith(t.Context(), e, with); err != nil {
		t.Fatal(err)
	}
	audittest.MustExec(t, held, `BEGIN; SELECT FROM public.changes FOR UPDATE`)
	for name, c := range map[string]struct {
		want error
		with audit.SQLStatement
	}{
		"constraint":            {audit.ErrRefused, statement(`UPDATE public.changes SET n = -1 WHERE id = $1`, audit.Repeats)},
		"check":                 {audit.ErrRefused, statement(`INSERT INTO public.changes (id, n) VALUES (gen_random_uuid(), $1)`, int64(-1))},
		"no table":              {audit.ErrRefused, statement(`DELETE FROM public.nothing`)},
		"no privilege":          {audit.ErrRefused, statement(`DELETE FROM public.changes`)},
		"syntax":                {audit.ErrRefused, statement(`DELETE`)},
		"locked":                {audit.ErrRefused, statement(`UPDATE public.changes SET n = 2 WHERE id = $1`, lockedID)},
		"slow":                  {audit.ErrRefused, statement(`SELECT pg_sleep(60)`)},
		"no effect":             {audit.ErrNoEffect, statement(`UPDATE public.changes SET n = 2 WHERE id = $1`, audittest.NewUUID(time.Now()))},
		"ends every connection": {audit.ErrRefused, statement(`SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)`)},
	} {
		t.Run(name, func(t *testing.T) {
			l := logFor(t, db.URL(database.Writer), nil) // a blocked companion blocks those behind it for a time
			reconnects := l.Stats().Reconnects
			var wg sync.WaitGroup
			for n := range int64(5) {
				wg.Go(func() {
					if n%2 == 1 {
						audittest.Record(t, l, audittest.Decision("allow", int(n)))
						return
					}
					e, with := received(n)
					id := e.DecisionID
					var want error
					if n == 2 {
						want = c.want
						with.Statements = []audit.SQLStatement{c.with}
					}
					err := l.RecordWith(t.Context(), e, with)
					if blocks := name == "locked" || name == "slow"; blocks && want == nil && (errors.Is(err, audit.ErrRefused) || errors.Is(err, ErrUnavailable)) {
						return // it was behind the blocked one
					}
					if !errors.Is(err, want) {
						t.Errorf("%v, not %v", err, want)
					}
					if want == nil {
						return
					}
					audittest.Eventually(t, "the event of its absence", func() bool {
						return audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE decision_id = $1 AND kind = 'webhook_unqueued'`, id) == 1
					})
				})
			}
			wg.Wait()
			if n := l.Stats().Reconnects - reconnects; name != "ends every connection" && n != 0 {
				t.Errorf("%d connections were lost", n)
			}
		})
	}
	audittest.MustExec(t, held, `ROLLBACK`)
	audittest.Close(t, l)
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
}

// A session that holds the lock of the companions' table keeps no event without a companion
// from being recorded, and makes the log wait for one companion, not for each.
func TestBlockedCompanions(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := withChanges(t, db)
	l := logFor(t, db.URL(database.Writer), nil)
	held := audittest.Connect(t, db.URL(""))
	audittest.MustExec(t, held, `BEGIN; LOCK TABLE public.changes`)
	var wg sync.WaitGroup
	for n := range int64(40) {
		wg.Go(func() {
			if n%2 == 1 {
				audittest.Record(t, l, audittest.Decision("allow", int(n)))
				return
			}
			e, with := received(n)
			if err := l.RecordWith(t.Context(), e, with); !errors.Is(err, audit.ErrRefused) && !errors.Is(err, ErrUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	numbered := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_received'`)
	e, with := received(1)
	if err := l.RecordWith(t.Context(), e, with); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_received'`); n != numbered {
		t.Error("an event is numbered while companions are blocked")
	}
	audittest.MustExec(t, held, `ROLLBACK`)
	audittest.Eventually(t, "the end of the pause", func() bool {
		e, with := received(1)
		return l.RecordWith(t.Context(), e, with) == nil
	})
	audittest.Close(t, l)
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
}

// During an outage nothing is numbered; what was numbered before goes to the journal without
// its companion, and is followed by the event of its absence.
func TestCompanionDuringAnOutage(t *testing.T) {
	t.Parallel()
	server, db, l := frozen(t, func(c *Config) { c.Journal, c.Spool, c.Deadline = t.TempDir(), true, time.Minute })
	conn := withChanges(t, db)
	e, with := received(1)
	if err := l.RecordWith(t.Context(), e, with); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	server.Kill(t)
	e, with = received(2) // numbered: the loss of the connection is not known
	numbered := e.DecisionID
	if err := l.RecordWith(t.Context(), e, with); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	audittest.Eventually(t, "outage", func() bool { return l.currentOutage() != nil })
	for range 3 {
		e, with := received(3)
		if err := l.RecordWith(t.Context(), e, with); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	audittest.Record(t, l, audittest.Decision("allow", 1))
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	e, with = received(4)
	if err := l.RecordWith(t.Context(), e, with); err != nil {
		t.Error(err)
	}
	audittest.Close(t, l)
	conn = audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_received'`); n != 3 {
		t.Errorf("%d events", n)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_unqueued' AND decision_id = $1`, numbered); n != 1 {
		t.Errorf("%d events of the absence", n)
	}
}

// A caller that left before its event had a number leaves nothing; a full queue refuses.
func TestCompanionInAFullQueue(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), func(c *Config) { c.Queue, c.WriteTimeout = 1, time.Minute })
	conn := withChanges(t, db)
	held := audittest.Connect(t, db.URL(""))
	audittest.MustExec(t, held, `BEGIN; LOCK TABLE audit.events`)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 3)
	for n := range int64(3) { // one is numbered, one waits, one finds no room
		e, with := received(n)
		go func() { results <- l.RecordWith(ctx, e, with) }()
		if n == 0 {
			audittest.Eventually(t, "the first is written", func() bool {
				return audittest.QueryValue[int](t, conn, `SELECT count(*) FROM pg_stat_activity WHERE usename = 'sallyport_writer' AND datname = current_database() AND wait_event_type = 'Lock'`) == 1
			})
		}
	}
	audittest.Eventually(t, "the second waits", func() bool { return l.queue.len() == 1 })
	cancel()
	for range 3 {
		if err := <-results; !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	audittest.MustExec(t, held, `ROLLBACK`)
	e, with := received(9)
	if err := l.RecordWith(t.Context(), e, with); err != nil {
		t.Error(err)
	}
	audittest.Close(t, l)
	audittest.Sound(t, conn)
	for _, wrong := range checkCompanions(t, conn) {
		t.Error(wrong)
	}
	if n := audittest.QueryValue[int](t, conn, `SELECT count(*) FROM audit.events WHERE kind = 'webhook_received'`); n != 2 {
		t.Errorf("%d events", n)
	}
}

func TestCompanionIsChecked(t *testing.T) {
	t.Parallel()
	good := audit.Companion{Statements: []audit.SQLStatement{{SQL: "SELECT"}}, Applied: audit.SQLStatement{SQL: "SELECT"}, Void: func(error) *audit.Event { return nil }}
	for name, change := range map[string]func(*audit.Companion){
		"no statement": func(c *audit.Companion) { c.Statements = nil },
		"no effect":    func(c *audit.Companion) { c.Applied = audit.SQLStatement{} },
		"no void":      func(c *audit.Companion) { c.Void = nil },
		"type":         func(c *audit.Companion) { c.Statements = []audit.SQLStatement{statement("SELECT $1", 1.5)} },
		"zero byte":    func(c *audit.Companion) { c.Statements = []audit.SQLStatement{statement("SELECT $1", "a\x00")} },
	} {
		c := good
		change(&c)
		if _, err := newCompanion(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := newCompanion(audit.Companion{Applied: good.Applied, Void: good.Void, Statements: []audit.SQLStatement{
		statement("SELECT $1", nil, "a", []byte(nil), int64(-5), true, time.Unix(1, 5000).In(time.FixedZone("", 3600)))}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", c.statements[0].values); got != `["" "a" "" "-5" "true" "1970-01-01 00:00:01.000005Z"]` {
		t.Error(got)
	}
}
