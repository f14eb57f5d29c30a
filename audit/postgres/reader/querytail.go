package reader

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// Tail gives events as they become visible, each once.
//
// An event is stamped before it is written, and some wait for a database that was
// away: what becomes visible is not always later than what was visible before. So
// a tail goes by the writers' numbers, which have no gaps and become visible in
// their order, and not by time. What is new at one look comes in the order of
// time; a look never gives what comes before another's.
//
// A Tail outlives its connection: what it knows is for the next one.
type Tail struct {
	seen    map[string]int64 // the last number of each writer
	active  []string         // the writers that may continue
	scanned time.Time
}

// tailScan is how often all writers of the log are checked. In between, new ones
// show by their first event.
const tailScan = time.Minute

// tailStep bounds what is new at one look.
const tailStep = 5000

const (
	tailWritersSQL = `WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer, e.writer_sequence, e.kind <> 'writer_ended' AND e.time > now() - interval '25 hours'
		FROM w
		CROSS JOIN LATERAL (SELECT v.writer_sequence, v.kind, v.time FROM audit.events v WHERE v.writer = w.writer ORDER BY v.writer_sequence DESC LIMIT 1) e
		WHERE w.writer IS NOT NULL`
	tailFrom = `unnest($1::text[], $2::bigint[], $3::bigint[]) AS w(writer, low, high)
	  CROSS JOIN LATERAL (SELECT * FROM audit.events v
		WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence > w.low AND v.writer_sequence <= w.high) e`
	tailLatestSQL = `SELECT w.writer, coalesce((SELECT max(e.writer_sequence) FROM audit.events e WHERE e.writer = w.writer COLLATE "C"), 0)
		FROM unnest($1::text[]) AS w(writer)`
)

// NewTail makes a tail that has given nothing yet.
func NewTail() *Tail { return &Tail{} }

// Begin gives the latest events that match the filter, up to its limit, or all since
// its beginning where it has no limit; the oldest first. Events before them are not
// given any more. It is called once, and again where
// it has failed.
func (t *Tail) Begin(ctx context.Context, a *Querier, q *Filter, row func(Row) error) error {
	tx, err := a.begin(ctx)
	if err != nil {
		return a.explain(ctx, err)
	}
	defer a.end(tx)
	latest := Tail{}
	if _, err := latest.scan(ctx, tx); err != nil {
		return a.explain(ctx, err)
	}
	if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = off"); err != nil {
		return a.explain(ctx, err)
	}
	switch {
	case q.Limit > 0:
		newest := *q
		newest.Oldest = false
		sql, arguments := newest.sql("")
		var rows []clonedRow
		if _, err := a.rows(ctx, tx, &newest, sql, arguments, func(r Row) error {
			rows = append(rows, clone(r))
			return nil
		}); err != nil {
			return err
		}
		for _, k := range slices.Backward(rows) {
			if err := row(Row(k)); err != nil {
				return err
			}
		}
	case !q.Since.IsZero():
		oldest := *q
		oldest.Oldest = true
		sql, arguments := oldest.sql("")
		if _, err := a.rows(ctx, tx, &oldest, sql, arguments, row); err != nil {
			return err
		}
	}
	*t = latest
	return nil
}

// Look gives the events that have become visible since, at most some thousand: more
// reports that there are others. Where it fails, the next call gives the events that
// it has not given.
func (t *Tail) Poll(ctx context.Context, a *Querier, q *Filter, row func(Row) error) (more bool, err error) {
	tx, err := a.begin(ctx)
	if err != nil {
		return false, a.explain(ctx, err)
	}
	defer a.end(tx)
	// The new events are few and the log is long, whatever the planner thinks.
	if _, err := tx.Exec(ctx, "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"); err != nil {
		return false, a.explain(ctx, err)
	}
	latest, err := t.latest(ctx, tx)
	if err != nil {
		return false, a.explain(ctx, err)
	}
	var writers []string
	var from, to []int64
	for writer, last := range latest {
		if seen := t.seen[writer]; last > seen {
			if last > seen+tailStep {
				last, more = seen+tailStep, true
			}
			writers, from, to = append(writers, writer), append(from, seen), append(to, last)
		}
	}
	if len(writers) == 0 {
		return false, nil
	}
	fresh := *q
	fresh.Oldest, fresh.Limit, fresh.Since = true, 0, time.Time{}
	sql, arguments := fresh.sql(tailFrom, writers, from, to)
	// The rows are kept until all are here: a look that fails in the middle has
	// given nothing.
	var rows []clonedRow
	if _, err := a.rows(ctx, tx, &fresh, sql, arguments, func(r Row) error {
		rows = append(rows, clone(r))
		return nil
	}); err != nil {
		return false, err
	}
	a.end(tx)
	for i, writer := range writers {
		t.seen[writer] = to[i]
	}
	for _, k := range rows {
		if err := row(Row(k)); err != nil {
			return false, err
		}
	}
	return more, nil
}

// latest is the last number of each writer that may have gone on.
func (t *Tail) latest(ctx context.Context, tx pgx.Tx) (map[string]int64, error) {
	if time.Since(t.scanned) > tailScan {
		now := Tail{}
		if _, err := now.scan(ctx, tx); err != nil {
			return nil, err
		}
		t.active, t.scanned = now.active, now.scanned
		return now.seen, nil
	}
	started, err := auditpg.StartedWriters(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, writer := range started {
		if _, known := t.seen[writer]; !known && !slices.Contains(t.active, writer) {
			t.active = append(t.active, writer)
		}
	}
	rows, err := tx.Query(ctx, tailLatestSQL, t.active)
	if err != nil {
		return nil, fmt.Errorf("look for events: %w", err)
	}
	return collectNumbers(rows)
}

func collectNumbers(rows pgx.Rows) (map[string]int64, error) {
	numbers := map[string]int64{}
	var writer string
	var last int64
	_, err := pgx.ForEachRow(rows, []any{&writer, &last}, func() error {
		numbers[writer] = last
		return nil
	})
	return numbers, err
}

// scan checks all writers.
func (t *Tail) scan(ctx context.Context, tx pgx.Tx) (writers int, err error) {
	rows, err := tx.Query(ctx, tailWritersSQL)
	if err != nil {
		return 0, fmt.Errorf("look for writers: %w", err)
	}
	t.seen, t.active, t.scanned = map[string]int64{}, []string{audit.DatabaseWriter}, time.Now()
	var writer string
	var last int64
	var active bool
	_, err = pgx.ForEachRow(rows, []any{&writer, &last, &active}, func() error {
		t.seen[writer] = last
		if active && writer != audit.DatabaseWriter {
			t.active = append(t.active, writer)
		}
		return nil
	})
	return len(t.seen), err
}

// clonedRow is a row with its own copy of the values.
type clonedRow Row

func clone(r Row) clonedRow {
	k := clonedRow{columns: r.columns, values: make([][]byte, len(r.values))}
	for i, v := range r.values {
		k.values[i] = slices.Clone(v) // nil stays nil
	}
	return k
}
