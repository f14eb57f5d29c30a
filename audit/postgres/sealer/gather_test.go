package sealer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

const manyBehindAGap = `SELECT generate_series(3, 25000) UNION ALL SELECT 1`

// TestStuckWriterStopsNobody: a writer with a missing number and 25,000 events
// behind it keeps no other writer's events from being sealed, and is reported at
// every step, also where nothing else is sealed.
func TestStuckWriterStopsNobody(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	audittest.AddWriter(t, db, "00-stuck", manyBehindAGap)
	audittest.Seal(t, s)
	for n := range 5 {
		audittest.Record(t, l, audittest.Decision("allow", n))
		audittest.Seal(t, s)
		st := s.Status()
		if st.Size != int64(3+n+1) {
			t.Fatalf("%d leaves after %d events of the live writer: it is not sealed", st.Size, n+1)
		}
		reported(t, st)
	}
	audittest.Seal(t, s) // nothing to seal
	reported(t, s.Status())
}

func reported(t *testing.T, st Status) {
	t.Helper()
	if len(st.Findings) != 1 || !strings.Contains(st.Findings[0], "has no number 2, and continues with 3") || st.Blocked != 24998 || st.UnsealedSince.IsZero() {
		t.Errorf("the stuck writer is not reported: %q, %d blocked, unsealed since %s", st.Findings, st.Blocked, st.UnsealedSince)
	}
}

// gatherByOneLimit is a gatherer whose writers share one limit, in the order of
// their names.
func (s *Sealer) gatherByOneLimit(ctx context.Context, tx pgx.Tx) (batch, error) {
	var b batch
	names, _, err := s.writers.next(ctx, tx, s.config.Writer(), s.writersPerStep)
	if err != nil {
		return b, err
	}
	runs := make(map[string]*run, len(names))
	var sealed, share []int64
	for _, name := range names {
		var end int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(writer_sequence), 0) FROM audit.leaves WHERE writer = $1`, name).Scan(&end); err != nil {
			return b, err
		}
		runs[name] = &run{next: end + 1, end: 1 << 60}
		sealed, share = append(sealed, end), append(share, int64(s.config.Batch)-1)
	}
	rows, err := tx.Query(ctx, gatherSQL+fmt.Sprintf(" LIMIT %d", s.config.Batch), pgx.QueryResultFormats{pgx.BinaryFormatCode}, names, sealed, share)
	if err != nil {
		return b, err
	}
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues()
		place, err := auditpg.Int8(values[0])
		if err != nil {
			return b, err
		}
		l := leaf{writer: names[place-1], kind: audit.Kind(values[2])}
		if l.sequence, err = auditpg.Int8(values[1]); err != nil {
			return b, err
		}
		record, _ := auditpg.RecordIn(nil, values[3:])
		l.hash = audit.Leaf(record)
		b.add(runs[l.writer], l)
	}
	return b, rows.Err()
}

// TestSharesAreNeeded: where all writers share one limit, a stuck writer uses it
// up and the others are not sealed.
func TestSharesAreNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	s.gatherNext = s.gatherByOneLimit
	audittest.Seal(t, s)
	audittest.AddWriter(t, db, "00-stuck", manyBehindAGap)
	audittest.Record(t, l, audittest.Decision("allow", 1))
	audittest.Seal(t, s) // the first number of the stuck writer
	size := s.Status().Size
	audittest.Record(t, l, audittest.Decision("allow", 2))
	audittest.Seal(t, s)
	if st := s.Status(); st.Size != size {
		t.Errorf("%d leaves became %d: without shares the live writer was sealed all the same", size, st.Size)
	}
}

// TestEveryWriterHasItsShare: whatever waits, each batch has something of every
// writer, and of as many as it has leaves where there are more.
func TestEveryWriterHasItsShare(t *testing.T) {
	t.Parallel()
	var ready []pending
	for n := range 100 {
		ready = append(ready, pending{writer: fmt.Sprint(n), last: int64(1 + n*n*n)})
	}
	for _, batch := range []int{100, 101, 150, 20000, 10_000_000} {
		total, waiting := int64(0), int64(0)
		for _, p := range shares(slices.Clone(ready), batch, 7) {
			if p.share < 1 || p.share > p.last {
				t.Errorf("batch %d: writer %s has a share of %d", batch, p.writer, p.share)
			}
			total, waiting = total+p.share, waiting+p.last
		}
		if total != min(int64(batch), waiting) {
			t.Errorf("batch %d: %d taken of %d", batch, total, waiting)
		}
	}
	seen := make(map[string]bool)
	for rotation := 0; rotation < 100; rotation += 30 {
		for _, p := range shares(slices.Clone(ready), 30, rotation) {
			if p.share != 1 {
				t.Errorf("writer %s has a share of %d", p.writer, p.share)
			}
			seen[p.writer] = true
		}
	}
	if len(seen) != 100 {
		t.Errorf("in four turns of 30 %d of 100 writers had one", len(seen))
	}
}

// TestManyWriters: thousands of writers, most of them behind gaps, are sealed in
// a few steps, and the findings are bounded.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealerFor(t, db.URL(database.Writer), l, withKey(audittest.NewKey(t, "")))
	s.config.Batch = 500
	if _, err := audittest.Connect(t, db.URL("")).Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), 'writer_started', 'w' || w, n, '{}' FROM generate_series(1, 2000) w, generate_series(1, 3) n WHERE w % 4 = 0 OR n <> 2`); err != nil {
		t.Fatal(err)
	}
	audittest.Seal(t, s)
	st := s.Status()
	if want := int64(2 + 500*3 + 1500); st.Size != want || st.Blocked != 1500 || len(st.Findings) != maxBlockedFindings+1 {
		t.Errorf("%d leaves, want %d; %d blocked, %d findings", st.Size, want, st.Blocked, len(st.Findings))
	}
}
