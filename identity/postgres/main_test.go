package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
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

// env is a store on a database, and what its callbacks received.
type env struct {
	*Store
	mu            sync.Mutex
	reassignments []identity.Reassignment
	told          []identity.Revocation
	stop          func()
}

// instance opens a store as the server does, runs it and watches, and stops it
// at the end of the test, without leaving a goroutine behind.
func instance(t testing.TB, url string, age time.Duration, change ...func(*Store)) *env {
	t.Helper()
	h := &env{}
	var err error
	h.Store, err = Open(t.Context(), Config{
		URL: url, AdmittedMaxAge: age, Log: slog.New(slog.NewTextHandler(pgtest.LogWriter{T: t}, nil)),
		NameReassigned: func(m identity.Reassignment) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.reassignments = append(h.reassignments, m)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(h.Store)
	}
	h.names.gather, h.admissions.gather = time.Millisecond, time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = h.Run(ctx) })
	all.Go(func() {
		_ = h.Watch(ctx, func(news []identity.Revocation) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.told = append(h.told, news...)
		})
	})
	h.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		h.Close()
	})
	t.Cleanup(h.stop)
	return h
}

func (h *env) moved() []identity.Reassignment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]identity.Reassignment(nil), h.reassignments...)
}

func (h *env) received() []identity.Revocation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]identity.Revocation(nil), h.told...)
}

// written waits until nothing waits to be written.
func (h *env) written(t testing.TB) {
	t.Helper()
	pgtest.Eventually(t, "written", func() bool {
		s := h.Status()
		return s.NamesWaiting == 0 && s.AdmissionsWaiting == 0
	})
}

const (
	acme     = "922e118c-f34f-4226-a897-0e0afbec553d"
	initech  = "922e118c-f34f-4226-a897-0e0afbec5540"
	payments = "11112222-3333-4444-5555-000000000001"
	billing  = "11112222-3333-4444-5555-000000000002"
)

// uuidOf returns a UUID for a number.
func uuidOf(n int) string { return fmt.Sprintf("5f0c1d2e-0000-4000-8000-%012x", n) }
