package reader

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestConsistency: proofs between all sizes of a log, those of no checkpoint
// included, hold between the roots of these sizes; and the checkpoints that a pack
// has proofs for are the last of their hours and days.
func TestConsistency(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	key := audittest.NewKey(t, "")
	s := sealertest.Open(t, url, l, sealertest.WithKey(key))
	for n := range 4 {
		for m := range n + 1 {
			audittest.Record(t, l, audittest.Decision("allow", 10*n+m))
		}
		audittest.Seal(t, s)
	}
	r, err := Open(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rows, err := r.tx.Query(t.Context(), `SELECT hash FROM audit.leaves ORDER BY index`)
	if err != nil {
		t.Fatal(err)
	}
	var tree audit.Tree
	roots := []audit.Hash{tree.Root()}
	for rows.Next() {
		var hash []byte
		if err := rows.Scan(&hash); err != nil {
			t.Fatal(err)
		}
		tree.Append(audit.Hash(hash))
		roots = append(roots, tree.Root())
	}
	size := tree.Size()
	for to := int64(2); to <= size; to++ {
		for from := int64(1); from < to; from++ {
			c, err := r.Consistency(t.Context(), from, to)
			if err != nil || c.Check() != nil || c.From.Root != roots[from] || c.To.Root != roots[to] {
				t.Fatalf("from %d to %d: %+v %v", from, to, c, err)
			}
		}
	}
	if _, err := r.Consistency(t.Context(), 1, size+1); !errors.Is(err, ErrTooShort) {
		t.Errorf("a size that is not there: %v", err)
	}
	if _, err := r.Consistency(t.Context(), 3, 3); err == nil {
		t.Error("a proof from a size to itself")
	}
	tomorrow := time.Now().Add(25 * time.Hour)
	for _, hourly := range []time.Time{tomorrow, time.Now().Add(-time.Hour)} {
		sizes, err := r.CheckpointSizes(t.Context(), tomorrow, hourly)
		if err != nil || !slices.Contains(sizes, size) || len(sizes) > 2 { // 2 at the turn of an hour
			t.Errorf("%v %v", sizes, err)
		}
	}
	if sizes, err := r.CheckpointSizes(t.Context(), time.Now().Add(-2*time.Hour), time.Time{}); err != nil || len(sizes) != 0 {
		t.Errorf("%v %v", sizes, err)
	}
}
