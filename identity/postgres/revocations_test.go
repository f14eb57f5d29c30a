package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/database/listen"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func hence(d time.Duration) time.Time { return time.Now().Add(d) }

func (h *env) revokes(t testing.TB, scope identity.RevocationScope, uuid string) identity.Revocation {
	t.Helper()
	r, err := h.Revoke(t.Context(), scope, uuid, hence(time.Hour), "ada", "it leaks")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryInstanceLearns(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	one, two := instance(t, db.URL(database.Writer), 0), instance(t, db.URL(database.Writer), 0)
	first := one.revokes(t, identity.ScopeStep, uuidOf(1))
	second := two.revokes(t, identity.ScopeRepository, payments)
	for _, h := range []*env{one, two} {
		pgtest.Eventually(t, "both are known", func() bool { return h.Revoked(uuidOf(1), billing) && h.Revoked(uuidOf(2), payments) })
		if h.Revoked(uuidOf(2), billing) || h.Revoked(payments, uuidOf(1)) || h.Revoked("", "") {
			t.Error("another is revoked")
		}
		pgtest.Eventually(t, "both were told of", func() bool { return len(h.received()) == 2 })
		for i, want := range []identity.Revocation{first, second} {
			if got := h.received()[i]; got.ID != want.ID || got.Scope != want.Scope || got.UUID != want.UUID || got.By != "ada" || got.Reason != "it leaks" ||
				!got.Until.Equal(want.Until) || !got.RevokedAt.Equal(want.RevokedAt) {
				t.Errorf("told of %+v, want %+v", got, want)
			}
		}
		if s := h.Status(); s.Revocations != 2 || s.RevocationsError != nil || !s.RevocationsSince.IsZero() || time.Since(s.RevocationsRead) > time.Minute {
			t.Errorf("%+v", s)
		}
	}
	// One that starts later knows before it serves anybody.
	s, err := Open(t.Context(), Config{URL: db.URL(database.Writer)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !s.Revoked(uuidOf(1), billing) || !s.Revoked(uuidOf(2), payments) {
		t.Error("not known at the start")
	}
}

// revocationBound is the stated time until every instance enforces a revocation.
const revocationBound = 2 * time.Second

// TestRevocationByNotification: without polls, another instance enforces a revocation within
// the stated time, because the commit notifies. On a loaded machine one of ten revocations
// has to reach the bound. If the instance does not receive the notification, none is
// enforced. With polls, the bound then still has half a second for two reads.
func TestRevocationByNotification(t *testing.T) {
	t.Parallel()
	if listen.MaxDelay > revocationBound-500*time.Millisecond {
		t.Errorf("a lost notification delays a revocation by %v", listen.MaxDelay)
	}
	for name, heard := range map[string]string{"received": channel, "lost": "another_channel"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t)
			one := instance(t, db.URL(database.Writer), 0)
			two := instance(t, db.URL(database.Writer), 0, func(s *Store) { s.listener.Poll, s.listener.Channel = time.Hour, heard })
			conn := pgtest.Connect(t, db.URL(""))
			pgtest.Eventually(t, "both have read", func() bool {
				return pgtest.Value[int](t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^sallyport revocations [0-9a-f]+ [0-9]+$'") == 2
			})
			if heard != channel {
				one.confirmTimeout = 100 * time.Millisecond
				_, err := one.Revoke(t.Context(), identity.ScopeStep, uuidOf(1), hence(time.Hour), "ada", "")
				if _, unconfirmed := errors.AsType[*identity.UnconfirmedError](err); !unconfirmed || two.Revoked(uuidOf(1), payments) {
					t.Errorf("enforced without a notification: %v", err)
				}
				return
			}
			one.confirmTimeout = time.Minute
			var fastest time.Duration
			for n := range 10 {
				began := time.Now()
				one.revokes(t, identity.ScopeStep, uuidOf(n))
				if took := time.Since(began); n == 0 || took < fastest {
					fastest = took
				}
				if !two.Revoked(uuidOf(n), payments) {
					t.Fatal("confirmed and not in force")
				}
				if fastest <= revocationBound {
					return
				}
			}
			t.Errorf("the fastest of ten revocations took %v", fastest)
		})
	}
}

// A missed notification costs a second.
func TestLearnsWithoutNotification(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(database.Writer))
	pgtest.Eventually(t, "it watches", func() bool {
		return pgtest.Value[int](t, conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sallyport revocations%'") == 1
	})
	pgtest.Exec(t, conn, "INSERT INTO identity.revocations (step_uuid, until, revoked_by, reason) VALUES ($1, now() + interval '1 hour', 'ada', '')", uuidOf(1))
	pgtest.Eventually(t, "known", func() bool { return h.Revoked(uuidOf(1), payments) })
	// A revocation that the owner ends, ends everywhere.
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "UPDATE identity.revocations SET until = clock_timestamp() + interval '1 millisecond', revoked_at = clock_timestamp()")
	pgtest.Eventually(t, "ended", func() bool { return !h.Revoked(uuidOf(1), payments) })
	if n := len(h.received()); n != 1 {
		t.Errorf("told of %d", n)
	}
}

// A revocation ends by itself.
func TestRevocationEnds(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), 0)
	if _, err := h.Revoke(t.Context(), identity.ScopeStep, uuidOf(1), hence(3*time.Second), "ada", ""); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, "known", func() bool { return len(h.received()) == 1 })
	pgtest.Eventually(t, "ended", func() bool { return !h.Revoked(uuidOf(1), payments) && h.Status().Revocations == 0 })
}

// The connection that listens is cut, and the database goes away and comes back:
// what was in force stays so, and what came meanwhile is received.
func TestWatchOverOutages(t *testing.T) {
	pgtest.CheckLeaks(t)
	server, db := pgtest.StartFrom(t, pgtest.Options{}, "sallyport", migrate)
	h := instance(t, db.URL(database.Writer), 0)
	h.revokes(t, identity.ScopeStep, uuidOf(1))
	pgtest.Eventually(t, "known", func() bool { return h.Revoked(uuidOf(1), payments) })

	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Eventually(t, "the connection that listens is cut", func() bool {
		return pgtest.Value[int](t, admin, "SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'sallyport revocations%') x") == 1
	})
	h.revokes(t, identity.ScopeStep, uuidOf(2))
	pgtest.Eventually(t, "known over a new connection", func() bool { return h.Revoked(uuidOf(2), payments) })

	server.Kill(t)
	pgtest.Eventually(t, "the outage shows", func() bool { s := h.Status(); return s.RevocationsError != nil && !s.RevocationsSince.IsZero() })
	if !h.Revoked(uuidOf(1), payments) || !h.Revoked(uuidOf(2), payments) {
		t.Error("forgotten while the database is away")
	}
	if _, err := h.Revoke(t.Context(), identity.ScopeStep, uuidOf(3), hence(time.Hour), "ada", ""); err == nil {
		t.Error("revoked without a database")
	}
	server.Restart(t)
	conn := pgtest.Connect(t, db.URL(database.Writer))
	pgtest.Exec(t, conn, "INSERT INTO identity.revocations (step_uuid, until, revoked_by, reason) VALUES ($1, now() + interval '1 hour', 'ada', '')", uuidOf(4))
	pgtest.Eventually(t, "known after the outage", func() bool { return h.Revoked(uuidOf(4), payments) })
	pgtest.Eventually(t, "the outage is over", func() bool { s := h.Status(); return s.RevocationsError == nil && s.RevocationsSince.IsZero() })
	if !h.Revoked(uuidOf(1), payments) {
		t.Errorf("%+v", h.Status())
	}
	seen := map[int64]bool{}
	pgtest.Eventually(t, "told of each once", func() bool {
		clear(seen)
		for _, r := range h.received() {
			if seen[r.ID] {
				t.Fatalf("told of %d twice", r.ID)
			}
			seen[r.ID] = true
		}
		return len(seen) == 3
	})
}

// A database that hangs shows too, nothing waits for it, and the end does not.
func TestWatchOverAFrozenDatabase(t *testing.T) {
	pgtest.CheckLeaks(t)
	server, db := pgtest.StartFrom(t, pgtest.Options{NoSync: true}, "sallyport", migrate)
	h := instance(t, db.URL(database.Writer), 0)
	h.revokes(t, identity.ScopeStep, uuidOf(1))
	pgtest.Eventually(t, "known", func() bool { return h.Revoked(uuidOf(1), payments) })
	server.Freeze(t)
	pgtest.Eventually(t, "the outage shows", func() bool { return h.Status().RevocationsError != nil })
	if !h.Revoked(uuidOf(1), payments) {
		t.Error("forgotten")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Watch(ctx, nil) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for a database that hangs")
	}
	server.Thaw(t)
	pgtest.Eventually(t, "the outage is over", func() bool { return h.Status().RevocationsError == nil })
}

// Every login that may connect can notify; a notification causes a read and nothing else.
func TestNotificationsAreNotBelieved(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, flood := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(database.Auditor))
	batch := &pgx.Batch{}
	for range 5000 {
		batch.Queue("SELECT pg_notify('"+channel+"', $1 || random())", uuidOf(1))
	}
	if err := flood.SendBatch(t.Context(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	h.revokes(t, identity.ScopeStep, uuidOf(2))
	pgtest.Eventually(t, "known in a flood", func() bool { return h.Revoked(uuidOf(2), payments) })
	if h.Revoked(uuidOf(1), payments) {
		t.Error("the payload of a notification was used")
	}
}

func TestRevocationsThatCannotBe(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), 0)
	for _, tt := range []struct {
		name, uuid, by, why, want string
		scope                     identity.RevocationScope
		until                     time.Time
	}{
		{"scope", uuidOf(1), "ada", "", "only a step or a repository", "workspace", hence(time.Hour)},
		{"no scope", uuidOf(1), "ada", "", "only a step or a repository", "", hence(time.Hour)},
		{"braces", "{" + uuidOf(1) + "}", "ada", "", "bare lower-case UUID", identity.ScopeStep, hence(time.Hour)},
		{"no uuid", "", "ada", "", "bare lower-case UUID", identity.ScopeStep, hence(time.Hour)},
		{"no operator", uuidOf(1), " ", "", "the operator", identity.ScopeStep, hence(time.Hour)},
		{"NUL", uuidOf(1), "a\x00", "", "the operator", identity.ScopeStep, hence(time.Hour)},
		{"long", uuidOf(1), "ada", strings.Repeat("x", 4001), "the reason", identity.ScopeStep, hence(time.Hour)},
		{"over", uuidOf(1), "ada", "", "has passed", identity.ScopeStep, hence(-time.Hour)},
		{"never", uuidOf(1), "ada", "", "has passed", identity.ScopeStep, time.Time{}},
		{"far", uuidOf(1), "ada", "", "too far", identity.ScopeStep, time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := h.Revoke(t.Context(), tt.scope, tt.uuid, tt.until, tt.by, tt.why)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	conn := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, conn, "INSERT INTO identity.revocations (step_uuid, until, revoked_by, reason) SELECT gen_random_uuid(), now() + interval '1 hour', 'ada', '' FROM generate_series(1, $1::int)", maxRevocations)
	if _, err := h.Revoke(t.Context(), identity.ScopeStep, uuidOf(1), hence(time.Hour), "ada", ""); err == nil || !strings.Contains(err.Error(), "in force already") {
		t.Errorf("%v", err)
	}
	pgtest.Eventually(t, "all are known", func() bool { return h.Status().Revocations == maxRevocations })
}

// A token that was admitted before a revocation is not accepted after its end,
// also when the revocation itself is over.
func TestRevokedTokensAreNotHonoured(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 10*time.Hour), pgtest.Connect(t, db.URL(""))
	one, two, three := principal(1), principal(2), principal(3)
	three.Repository.UUID = billing
	for _, p := range []int{1, 2} {
		h.admits(t, principal(p))
	}
	h.admits(t, three)
	h.revokes(t, identity.ScopeStep, one.Step.UUID)
	if h.honours(t, one) != nil || h.honours(t, two) == nil || h.honours(t, three) == nil {
		t.Error("by step")
	}
	h.revokes(t, identity.ScopeRepository, payments)
	if h.honours(t, two) != nil || h.honours(t, three) == nil {
		t.Error("by repository")
	}
	pgtest.Exec(t, conn, `UPDATE identity.revocations SET until = revoked_at + interval '1 microsecond'`)
	pgtest.Eventually(t, "they are over", func() bool { return !h.Revoked(one.Step.UUID, payments) })
	if h.honours(t, one) != nil || h.honours(t, two) != nil {
		t.Error("honoured again when the revocation was over")
	}
	// A step that begins afterwards has nothing to do with it.
	four := principal(4)
	h.admits(t, four)
	if h.honours(t, four) == nil {
		t.Error("a later step is not honoured")
	}
	// Without the condition it would be: the condition is needed.
	pgtest.Exec(t, conn, "DELETE FROM identity.revocations")
	if h.honours(t, one) == nil {
		t.Error("negative control")
	}
}

func BenchmarkRevoked(b *testing.B) {
	s := &Store{}
	s.revoked.Store(newRevocationSet([]identity.Revocation{{ID: 1, Scope: identity.ScopeStep, UUID: uuidOf(1)}}))
	for b.Loop() {
		if s.Revoked(uuid3, payments) {
			b.Fatal()
		}
	}
}

var uuid3 = uuidOf(3)
