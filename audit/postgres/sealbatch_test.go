package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/postgres"
)

// TestBatchShrinks: where a full batch takes longer than a step may, smaller ones
// are sealed, and the batch grows again. With a batch of one size nothing would be
// sealed.
func TestBatchShrinks(t *testing.T) {
	t.Parallel()
	db := database(t)
	url := db.URL(postgres.Writer)
	l := logFor(t, url, nil)
	for n := range 900 {
		record(t, l, decision("allow", n))
	}
	s := sealerFor(t, url, l, func(c *SealerConfig) { c.Signer, c.Batch = newKey(t, ""), 3200 })
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
	if first := limits[3]; first != 400 || s.Status().Sealed < 900 || s.halvings >= 3 {
		t.Errorf("limits %v, sealed %d, halvings %d", limits, s.Status().Sealed, s.halvings)
	}
	shut(t, l)
}

// TestKeysAreReadOnce: each sealed event that names a key is read once, and a
// record that is too long for one not at all.
func TestKeysAreReadOnce(t *testing.T) {
	t.Parallel()
	db := database(t)
	url := db.URL(postgres.Writer)
	l := logFor(t, url, nil)
	s := sealerFor(t, url, l, withKey(newKey(t, "")))
	seal := func() {
		t.Helper()
		if err := s.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seal()
	for range 3 { // a login that may write names keys of its own
		record(t, l, audit.Register(newKey(t, s.config.Signer.Key().Origin()), time.Now()))
	}
	long := audit.Register(newKey(t, ""), time.Now())
	for range 20 {
		long.Attributes = append(long.Attributes, audit.Attribute{Name: "more", Value: string(make([]byte, 1500))})
	}
	record(t, l, long)
	seal()
	tx, err := s.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	first, err := s.registrations(t.Context(), tx)
	if err != nil || len(first) != 4 {
		t.Fatalf("%d registrations: %v", len(first), err)
	}
	var read int
	if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM (`+sealedKeysSQL+`) q`, audit.KindSigningKey, s.keys.next, maxRegistration).Scan(&read); err != nil || read != 0 {
		t.Errorf("%d are read again: %v", read, err)
	}
	again, err := s.registrations(t.Context(), tx)
	if err != nil || len(again) != 4 || !again[0].sealed {
		t.Errorf("%d registrations the second time: %v", len(again), err)
	}
	shut(t, l)
}
