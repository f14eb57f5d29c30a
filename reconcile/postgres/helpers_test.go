package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/migrations"
)

const (
	acme     = "922e118c-f34f-4226-a897-0e0afbec553d"
	payments = "11112222-3333-4444-5555-000000000001"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

// migrated returns a migrated database of the shared server.
func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", migrate)
}

// isBusy reports whether err names the session that holds the lock of reconciliation.
func isBusy(err error, part string) bool {
	busy, ok := errors.AsType[*identity.ReconciliationBusy](err)
	return ok && strings.Contains(busy.Error(), part)
}

// saveNames writes names with the store that the server uses.
func saveNames(t testing.TB, url string, names ...identity.KnownName) {
	t.Helper()
	store, err := identitypg.Open(t.Context(), identitypg.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, n := range names {
		if err := store.SaveName(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = store.Run(ended) // writes what waits, and returns
}

func uuidOf(n int) string { return fmt.Sprintf("5f0c1d2e-0000-4000-8000-%012x", n) }

func minutes(n int) time.Time {
	return time.Date(2026, 3, 1, 12, n, 0, 123456789, time.UTC)
}

// takeDown returns the part of a migration that removes what it made.
func takeDown(t testing.TB, name string) string {
	t.Helper()
	file, err := fs.ReadFile(migrations.Files, name)
	if err != nil {
		t.Fatal(err)
	}
	_, down, found := strings.Cut(string(file), "-- +goose Down")
	if !found {
		t.Fatalf("%s has no way down", name)
	}
	return down
}
