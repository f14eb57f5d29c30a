package database

import (
	"context"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// migrated returns a database with the current schema.
func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := Migrate(ctx, url, nil)
		return err
	})
}
