package sealer

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestBatchShrinks: where a full batch takes longer than a step may, smaller ones
// are sealed, and the batch grows again. With a batch of one size nothing would be
// sealed.
func TestBatchShrinks(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	url := db.URL(database.Writer)
	l := writertest.Open(t, url, nil)
	for n := range 900 {
		audittest.Record(t, l, audittest.Decision("allow", n))
	}
	s := sealerFor(t, url, l, func(c *Config) { c.Signer, c.Batch = audittest.NewKey(t, ""), 3200 })
	slow := true
	var limits []int
	s.gatherNext = func(ctx context.Context, tx pgx.Tx) (batch, error) {
		limits = append(limits, s.batchLimit())
		if slow && s.batchLimit() > 400 {
			return batch{}, context.DeadlineExceeded
		}
		return s.gather(ctx, tx)
	}
	for range 3 {
		if err := s.Seal(t.Context()); err == nil {
			t.Fatalf("sealed with %v", limits)
		}
	}
	slow = false
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first := limits[3]; first != 400 || s.Status().Sealed < 900 || s.batchHalvings >= 3 {
		t.Errorf("limits %v, sealed %d, halvings %d", limits, s.Status().Sealed, s.batchHalvings)
	}
	audittest.Close(t, l)
}
