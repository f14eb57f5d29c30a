package reader

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// UnsealedRun are consecutive numbers of a writer that have no leaf, above the
// writer's last number that has one.
type UnsealedRun struct {
	Writer      string
	Sealed      int64     // the writer's last number with a leaf; 0: none
	SealedAt    time.Time // the time of that event; zero: it is not there
	First, Last int64
	At, Until   time.Time // of the events First and Last
	Twice       int64     // the first of these numbers that more than one event has; 0: none
	InPeriod    int64     // events of the period among them, however often their number is there
}

// unsealedRunsSQL walks an index from one writer to the next, and of each reads only
// what has no leaf yet.
const unsealedRunsSQL = `WITH RECURSIVE w AS (
    (SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
    UNION ALL
    SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
), s AS (
    SELECT w.writer, coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer), 0) AS sealed FROM w WHERE w.writer IS NOT NULL
), u AS (
    SELECT s.writer, s.sealed, e.writer_sequence, e.time,
           count(*) OVER (PARTITION BY s.writer, e.writer_sequence) AS copies,
           e.writer_sequence - dense_rank() OVER (PARTITION BY s.writer ORDER BY e.writer_sequence) AS run
    FROM s CROSS JOIN LATERAL (SELECT v.writer_sequence, v.time FROM audit.events v WHERE v.writer = s.writer AND v.writer_sequence > s.sealed) e
)
SELECT u.writer, u.sealed, (SELECT min(v.time) FROM audit.events v WHERE v.writer = u.writer AND v.writer_sequence = u.sealed),
       min(u.writer_sequence), max(u.writer_sequence), (array_agg(u.time ORDER BY u.writer_sequence, u.time))[1], (array_agg(u.time ORDER BY u.writer_sequence DESC, u.time))[1],
       coalesce(min(u.writer_sequence) FILTER (WHERE u.copies > 1), 0),
       count(*) FILTER (WHERE u.time >= $1 AND u.time < $2)
FROM u GROUP BY u.writer, u.sealed, u.run ORDER BY u.writer, min(u.writer_sequence)`

// UnsealedRuns gives what of every writer has no leaf, by writer and number.
func (r *Reader) UnsealedRuns(ctx context.Context, from, to time.Time) ([]UnsealedRun, error) {
	rows, err := r.tx.Query(ctx, unsealedRunsSQL, from, to)
	if err != nil {
		return nil, r.explain("look for events that are not sealed", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (UnsealedRun, error) {
		var u UnsealedRun
		var sealed *time.Time
		err := row.Scan(&u.Writer, &u.Sealed, &sealed, &u.First, &u.Last, &u.At, &u.Until, &u.Twice, &u.InPeriod)
		if sealed != nil {
			u.SealedAt = *sealed
		}
		return u, err
	})
	return list, r.explain("look for events that are not sealed", err)
}

// NextNumber is the number that a writer has after another one.
type NextNumber struct {
	Writer string
	Number int64
	At     time.Time // zero: only its leaf is there
}

const nextNumbersSQL = `SELECT w.writer, n.number, (SELECT min(v.time) FROM audit.events v WHERE v.writer = w.writer COLLATE "C" AND v.writer_sequence = n.number)
FROM unnest($1::text[], $2::bigint[]) AS w(writer, number)
CROSS JOIN LATERAL (SELECT least(
    (SELECT e.writer_sequence FROM audit.events e WHERE e.writer = w.writer COLLATE "C" AND e.writer_sequence > w.number ORDER BY e.writer_sequence LIMIT 1),
    (SELECT l.writer_sequence FROM audit.leaves l WHERE l.writer = w.writer COLLATE "C" AND l.writer_sequence > w.number ORDER BY l.writer_sequence LIMIT 1)) AS number) n
WHERE n.number IS NOT NULL
ORDER BY w.writer COLLATE "C"`

// NextNumbers gives of each of these writers the least number above the one beside
// it, of an event or of a leaf. A writer that has none is left out.
func (r *Reader) NextNumbers(ctx context.Context, writers []string, numbers []int64) ([]NextNumber, error) {
	rows, err := r.tx.Query(ctx, nextNumbersSQL, writers, numbers)
	if err != nil {
		return nil, r.explain("look for the next numbers", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (NextNumber, error) {
		var n NextNumber
		var at *time.Time
		err := row.Scan(&n.Writer, &n.Number, &at)
		if at != nil {
			n.At = *at
		}
		return n, err
	})
	return list, r.explain("look for the next numbers", err)
}
