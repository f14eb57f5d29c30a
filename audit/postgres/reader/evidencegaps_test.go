package reader

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestUnsealedRuns: what has no leaf is reported by its runs of numbers, with the times at
// both ends of each gap, whatever numbers are forged.
func TestUnsealedRuns(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "")))
	const other = "01a1fdf4-0000-7000-8000-0000000000cc"
	conn := audittest.Connect(t, db.URL(""))
	begin := time.Now().UTC().Truncate(time.Minute).Add(-time.Hour)
	clock := func(minute int) time.Time { return begin.Add(time.Duration(minute) * time.Minute) }
	audittest.InsertEvent(t, conn, other, 1, audit.KindWriterStarted, clock(0))
	audittest.InsertEvent(t, conn, other, 2, audit.KindNameReassigned, clock(1))
	audittest.Seal(t, s)
	audittest.InsertEvent(t, conn, other, 5, audit.KindNameReassigned, clock(2))
	audittest.InsertEvent(t, conn, other, 6, audit.KindNameReassigned, clock(3))
	audittest.InsertEvent(t, conn, other, 6, audit.KindNameReassigned, clock(4)) // twice
	audittest.InsertEvent(t, conn, other, 1<<52, audit.KindNameReassigned, clock(5))
	audittest.Seal(t, s)

	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	runs, err := r.UnsealedRuns(t.Context(), clock(3), clock(5))
	if err != nil {
		t.Fatal(err)
	}
	var got []UnsealedRun
	for _, u := range runs {
		u.SealedAt, u.At, u.Until = u.SealedAt.UTC(), u.At.UTC(), u.Until.UTC()
		if u.Writer == other {
			got = append(got, u)
		}
	}
	want := []UnsealedRun{
		{Writer: other, Sealed: 2, SealedAt: clock(1), First: 5, Last: 6, At: clock(2), Until: clock(3), Twice: 6, InPeriod: 2},
		{Writer: other, Sealed: 2, SealedAt: clock(1), First: 1 << 52, Last: 1 << 52, At: clock(5), Until: clock(5)},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, want %+v", got, want)
	}
	next, err := r.NextNumbers(t.Context(), []string{other, other, other, l.Writer(), "nobody"}, []int64{1, 2, 6, 1 << 40, 0})
	if err != nil || len(next) != 3 || next[0].Number != 2 || next[1].Number != 5 || !next[1].At.Equal(clock(2)) || next[2].Number != 1<<52 {
		t.Errorf("%+v: %v", next, err)
	}
}
