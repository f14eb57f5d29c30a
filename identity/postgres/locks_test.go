package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"
)

// isBusy reports whether err names the session that holds the lock of reconciliation.
func isBusy(err error, says string) bool {
	busy, ok := errors.AsType[*identity.ReconciliationBusy](err)
	return ok && strings.Contains(busy.Error(), says)
}

// reconciliation acquires the lock of reconciliation.
func reconciliation(t testing.TB, h *env) *reconcilepg.Session {
	t.Helper()
	r, err := reconcilepg.Open(t.Context(), h.config.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// stranger is a session of a login that may connect and nothing else.
func stranger(t testing.TB, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	pgtest.Exec(t, pgtest.Connect(t, db.URL("")), `DO $$ BEGIN CREATE ROLE lock_stranger LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
	return pgtest.Connect(t, db.URL("lock_stranger"))
}

// one is one answer about a name.
func one(t testing.TB) []observed {
	t.Helper()
	batch, err := observe(repository(payments, "acme/payments", minutes(0)))
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// obstruct acquires every advisory lock whose key can be computed from a name of
// the schema, and every lock that the login gets on what it can see, and keeps
// them in an open transaction.
func obstruct(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	names := []string{"audit.reconciliation", "identity.names", "identity.admitted_tokens", "audit.ensure_partition", "audit.names", "names",
		"reconciliation", "admitted_tokens", "seal", "database", "retention", "partition", "sallyport.session_locks", "audit.locks"}
	for _, name := range names {
		for _, key := range []string{"hashtextextended($1, 0)", "hashtext($1)::bigint"} {
			if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock("+key+")", name); err != nil {
				t.Fatal(err)
			}
		}
	}
	pgtest.Exec(t, conn, "BEGIN")
	for _, sql := range []string{
		"SELECT FROM audit.locks FOR UPDATE", "SELECT FROM sallyport.session_locks FOR UPDATE", "UPDATE sallyport.session_locks SET pid = 1",
		"LOCK TABLE audit.locks", "LOCK TABLE sallyport.session_locks IN ACCESS SHARE MODE", "LOCK TABLE identity.repositories", "LOCK TABLE audit.reconciliation_scans",
		"SELECT audit.acquire_names_lock()", "SELECT audit.try_reconciliation_lock()", "SELECT audit.confirm_reconciliation_lock()",
		"SELECT audit.release_reconciliation_lock()", "SELECT audit.try_admitted_tokens_lock()",
		"PREPARE a AS SELECT FROM audit.locks FOR UPDATE",
	} {
		pgtest.Exec(t, conn, "SAVEPOINT here")
		if _, err := conn.Exec(t.Context(), sql); pgtest.SQLState(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
		pgtest.Exec(t, conn, "ROLLBACK TO here")
	}
	pgtest.Exec(t, conn, "LOCK TABLE pg_catalog.pg_class, pg_catalog.pg_roles IN ACCESS SHARE MODE")
}

// TestStrangersLocks: a login that may only connect, with every lock that it can
// get, stops neither reconciliation nor the writing of names, nor the removal of
// ended tokens.
func TestStrangersLocks(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	obstruct(t, stranger(t, db))
	h.save(t, repository(payments, "acme/payments", minutes(0)))
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.repositories"); n != 1 {
		t.Errorf("%d names are written", n)
	}
	pgtest.Exec(t, conn, `INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, admitted_at, expires, until, issuer, principal)
		VALUES (sha256('x'), $1, $1, now() - interval '2 h', now() - interval '1 h', now() - interval '1 h', 'i', '{}')`, uuidOf(1))
	if err := h.sweepOnce(t.Context()); err != nil {
		t.Error(err)
	}
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.admitted_tokens"); n != 0 {
		t.Errorf("%d ended tokens are left", n)
	}
	r := reconciliation(t, h)
	found := identity.DeploymentFinding{DeploymentRun: identity.DeploymentRun{UUID: uuidOf(1), WorkspaceUUID: acme, RepositoryUUID: payments, StepUUID: uuidOf(301),
		State: identity.DeploymentSuccessful, Created: minutes(0)}, Class: identity.ClassUnobserved, Found: minutes(60)}
	if err := r.Save(t.Context(), uuidOf(9), []identity.DeploymentFinding{found}, nil); err != nil {
		t.Error(err)
	}
}

// TestRowLocksAreNeeded: with the advisory locks that the functions replace, the
// same login stops all three.
func TestRowLocksAreNeeded(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	const advisory = `CREATE OR REPLACE FUNCTION %s LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$ BEGIN %s END $$`
	for function, body := range map[string]string{
		"audit.acquire_names_lock() RETURNS timestamptz":                                              "PERFORM pg_advisory_xact_lock(hashtextextended('identity.names', 0)); RETURN clock_timestamp();",
		"audit.try_admitted_tokens_lock() RETURNS boolean":                                            "RETURN pg_try_advisory_xact_lock(hashtextextended('identity.admitted_tokens', 0));",
		"audit.try_reconciliation_lock(OUT acquired boolean, OUT holder text, OUT since timestamptz)": "acquired := pg_try_advisory_lock(hashtextextended('audit.reconciliation', 0));",
	} {
		pgtest.Exec(t, conn, fmt.Sprintf(advisory, function, body))
	}
	obstruct(t, stranger(t, db))
	if err := h.writeNames(t.Context(), one(t)); pgtest.SQLState(err) != "55P03" {
		t.Errorf("names: %v", err)
	}
	pgtest.Exec(t, conn, `INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, admitted_at, expires, until, issuer, principal)
		VALUES (sha256('x'), $1, $1, now() - interval '2 h', now() - interval '1 h', now() - interval '1 h', 'i', '{}')`, uuidOf(1))
	if err := h.sweepOnce(t.Context()); err != nil || pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.admitted_tokens") != 1 {
		t.Errorf("ended tokens were removed, %v", err)
	}
	if _, err := reconcilepg.Open(t.Context(), h.config.URL); !isBusy(err, "") {
		t.Errorf("reconciliation: %v", err)
	}
}

// TestHeldLocks: a login that may acquire a lock and keeps it is named to who
// waits, and the status has the time since when.
func TestHeldLocks(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, admin := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	// The bound is the function's own; the test does not wait five seconds for it.
	pgtest.Exec(t, admin, "ALTER FUNCTION audit.acquire_names_lock() SET lock_timeout = '50ms'")
	selfish := pgtest.Connect(t, db.URL(database.Writer))
	named := fmt.Sprintf("%d of sallyport_writer", selfish.PgConn().PID())
	pgtest.Exec(t, selfish, "BEGIN")
	pgtest.Exec(t, selfish, "SELECT audit.acquire_names_lock()")
	err := h.writeNames(t.Context(), one(t))
	if pgtest.SQLState(err) != "55P03" || !strings.Contains(err.Error(), named) {
		t.Errorf("names: %v, and %s is in the way", err, named)
	}
	if at := h.Status().NamesBlocked; time.Since(at) > time.Minute {
		t.Errorf("blocked since %v", at)
	}
	pgtest.Exec(t, selfish, "ROLLBACK")
	h.save(t, repository(payments, "acme/payments", minutes(0)))
	if at := h.Status().NamesBlocked; !at.IsZero() {
		t.Errorf("still blocked since %v", at)
	}

	if !pgtest.Value[bool](t, selfish, "SELECT acquired FROM audit.try_reconciliation_lock()") {
		t.Fatal("the lock is not free")
	}
	if _, err := reconcilepg.Open(t.Context(), h.config.URL); !isBusy(err, named+" has held it since 2") {
		t.Errorf("reconciliation: %v", err)
	}
	// Its row locked by a transaction that does not end: no wait, and the session is named.
	pgtest.Exec(t, selfish, "SELECT audit.release_reconciliation_lock()")
	pgtest.Exec(t, selfish, "BEGIN")
	pgtest.Exec(t, selfish, "SELECT audit.try_reconciliation_lock()")
	if _, err := reconcilepg.Open(t.Context(), h.config.URL); !isBusy(err, named) {
		t.Errorf("reconciliation: %v", err)
	}
	pgtest.Exec(t, selfish, "ROLLBACK")
	reconciliation(t, h)
}
