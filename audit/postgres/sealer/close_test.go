package sealer

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestCloseWaitsForTheLock: a sealer that closes seals what is left although another
// session holds the lock of sealing during the first attempt. One attempt, without
// the wait, seals nothing and reports no error.
func TestCloseWaitsForTheLock(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]func(*Sealer, context.Context) error{"close": (*Sealer).Close, "one attempt": (*Sealer).Seal} {
		t.Run(name, func(t *testing.T) {
			db := audittest.Migrated(t)
			url := db.URL(database.Writer)
			l := writertest.Open(t, url, nil)
			s := sealerFor(t, url, l, func(c *Config) { c.Signer = audittest.NewKey(t, "") })
			audittest.Seal(t, s)
			audittest.Record(t, l, audittest.Decision("allow", 1))
			audittest.Close(t, l)
			before := s.Status().Sealed
			other, err := audittest.Connect(t, db.URL(database.Sealer)).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var locked bool
			if err := other.QueryRow(t.Context(), sealLock).Scan(&locked); err != nil || !locked {
				t.Fatalf("locked %v, %v", locked, err)
			}
			attempts := 0
			compare := s.compareNewest
			s.compareNewest = func(ctx context.Context, tx pgx.Tx, last latest) error {
				if attempts++; attempts == 1 { // the attempt has asked for the lock by now
					if err := other.Rollback(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return compare(ctx, tx, last)
			}
			if err := last(s, t.Context()); err != nil {
				t.Fatal(err)
			}
			if sealed := s.Status().Sealed > before; sealed != (name == "close") || attempts == 0 {
				t.Errorf("sealed %d after %d, in %d attempts", s.Status().Sealed, before, attempts)
			}
		})
	}
}
