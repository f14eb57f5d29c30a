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
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestRevocationIsConfirmed: Revoke returns nil once every other instance that is
// connected has the revocation in force, and names the instance that does not.
func TestRevocationIsConfirmed(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	one, two := instance(t, db.URL(database.Writer), 0), instance(t, db.URL(database.Writer), 0)
	step := principal(1).Step.UUID
	one.revokes(t, identity.ScopeStep, step)
	if !two.Revoked(step, billing) {
		t.Error("reported, and not in force on the other instance")
	}

	// An instance that does not read, and a login that is not an instance.
	for role, want := range map[string]bool{database.Writer: true, database.Auditor: false} {
		config, err := pgx.ParseConfig(db.URL(role))
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["application_name"] = readerName + "deadbeef 1"
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		one.confirmTimeout = time.Minute
		if want {
			one.confirmTimeout = 2 * time.Second // it is used up; the other instance needs some of it
		}
		r, err := one.Revoke(t.Context(), identity.ScopeRepository, billing, hence(1e12), "ada", "")
		_ = conn.Close(context.Background())
		unconfirmed, got := errors.AsType[*identity.UnconfirmedError](err)
		if got != want || want && (r.ID == 0 || len(unconfirmed.Instances) != 1 || !strings.Contains(err.Error(), "instance deadbeef of the login sallyport_writer")) {
			t.Errorf("%s: %+v, %v", role, r, err)
		}
		if !one.Revoked(step, billing) || !two.Revoked(step, billing) {
			t.Error("not in force where it could be")
		}
	}
}

// TestConfirmationIsNeeded: without the wait for the others, a revocation is
// reported while an instance that hangs still honors the step.
func TestConfirmationIsNeeded(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	one := instance(t, db.URL(database.Writer), 0)
	hung, err := Open(t.Context(), Config{URL: db.URL(database.Writer)}) // connected, and not reading
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	conn := pgtest.Connect(t, db.URL(database.Writer))
	pgtest.Exec(t, conn, "SET application_name = '"+readerName+hung.instance+"'")
	r := identity.Revocation{Scope: identity.ScopeStep, UUID: uuidOf(1), Until: hence(1e12), By: "ada"}
	if err := one.revoke(t.Context(), &r); err != nil || hung.Revoked(uuidOf(1), billing) {
		t.Errorf("%v, in force on the instance that hangs: the confirmation is not needed", err)
	}
	one.confirmTimeout = 200 * time.Millisecond
	_, err = one.Revoke(t.Context(), identity.ScopeStep, uuidOf(1), hence(1e12), "ada", "")
	if unconfirmed, ok := errors.AsType[*identity.UnconfirmedError](err); !ok || !strings.Contains(unconfirmed.Error(), hung.instance) {
		t.Errorf("%v", err)
	}
}

// TestHostileSettings: the settings of a role change nothing of what the store
// writes, reads and enforces.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	db.SetHostile(t, database.Writer)
	one, two := instance(t, db.URL(database.Writer), 1e13), instance(t, db.URL(database.Writer), 1e13)
	p := principal(1)
	one.save(t, repository(payments, "acme/payments", minutes(0)), deployment(uuidOf(7), payments, `Production \ "EU" ü`, "production-eu", minutes(0)))
	one.admits(t, p)
	if got := two.honours(t, p); got == nil || got.Branch != p.Branch || got.CredentialDigest != p.CredentialDigest {
		t.Errorf("%+v", got)
	}
	names, err := two.LoadNames(t.Context(), acme)
	if err != nil || len(names) != 2 {
		t.Errorf("%+v, %v", names, err)
	}
	r := one.revokes(t, identity.ScopeStep, p.Step.UUID)
	if !one.Revoked(p.Step.UUID, billing) || !two.Revoked(p.Step.UUID, billing) {
		t.Error("not in force when reported")
	}
	if list, err := two.Revocations(t.Context()); err != nil || len(list) != 1 || !list[0].Until.Equal(r.Until) || !list[0].RevokedAt.Equal(r.RevokedAt) {
		t.Errorf("%+v, want %+v, %v", list, r, err)
	}
	if two.honours(t, p) != nil {
		t.Error("the token of a revoked step is honoured")
	}
	if n, err := two.Unrevoke(t.Context(), identity.ScopeStep, p.Step.UUID, "ada", `it's \ fine`); err != nil || n != 1 {
		t.Error(n, err)
	}
	pgtest.Eventually(t, "lifted everywhere", func() bool { return !one.Revoked(p.Step.UUID, billing) && !two.Revoked(p.Step.UUID, billing) })
	if s := one.Status(); s.RevocationsError != nil || s.NamesError != nil || s.AdmissionsError != nil || s.NamesLost+s.AdmissionsLost != 0 {
		t.Errorf("%+v", s)
	}
}

// TestFailover: once a standby is promoted, the store writes to and reads from the
// new primary, without a restart: where the former primary lives on read-only, and
// where it hangs. A revocation is in force on every instance when it is reported.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, retire := range map[string]func(*testing.T, *pgtest.Server){
		"read-only": func(t *testing.T, s *pgtest.Server) { s.ReadOnly(t) },
		"hangs":     func(t *testing.T, s *pgtest.Server) { s.Freeze(t); t.Cleanup(func() { s.Thaw(t) }) },
		"stopped":   func(t *testing.T, s *pgtest.Server) { s.Shutdown(t); t.Cleanup(func() { s.Restart(t) }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failover(t, retire)
		})
	}
}

func failover(t *testing.T, retire func(*testing.T, *pgtest.Server)) {
	primary := pgtest.Start(t, pgtest.Options{NoSync: true})
	db := primary.NewFrom(t, "sallyport", migrate)
	standby := primary.Standby(t, "second", pgtest.Options{NoSync: true})
	primary.SynchronousStandby(t, "second") // so that it has what is there
	url := pgtest.Pair(db.Name, database.Writer, primary, standby)
	one, two := instance(t, url, 1e13), instance(t, url, 1e13)
	one.revokes(t, identity.ScopeStep, uuidOf(1))
	if _, err := one.LoadNames(t.Context(), acme); err != nil { // a pooled session that reads
		t.Fatal(err)
	}
	primary.SynchronousStandby(t, "")
	standby.Promote(t)
	retire(t, primary)

	pgtest.Eventually(t, "revoked on the new primary", func() bool {
		_, err := one.Revoke(t.Context(), identity.ScopeStep, uuidOf(2), hence(time.Hour), "ada", "")
		return err == nil
	})
	if !one.Revoked(uuidOf(1), billing) || !one.Revoked(uuidOf(2), billing) {
		t.Error("not in force where it was revoked")
	}
	pgtest.Eventually(t, "in force on the other instance", func() bool { return two.Revoked(uuidOf(2), billing) })
	// A session of this instance may still hang: the revocation fails then, and is repeated.
	pgtest.Eventually(t, "revoked by the other instance", func() bool {
		_, err := two.Revoke(t.Context(), identity.ScopeStep, uuidOf(3), hence(time.Hour), "ada", "")
		return err == nil
	})
	if !one.Revoked(uuidOf(3), billing) {
		t.Error("reported, and not in force on the other instance")
	}
	list, err := one.Revocations(t.Context())
	if err != nil || len(list) < 3 {
		t.Errorf("%v, %v", list, err)
	}
	one.save(t, repository(payments, "acme/payments", minutes(0)))
	one.admits(t, principal(7))
	if n := pgtest.Value[int](t, pgtest.Connect(t, standby.URL(db.Name, "")), "SELECT count(*) FROM identity.revocations"); n != len(list) {
		t.Errorf("the new primary has %d revocations, and %d are listed", n, len(list))
	}
}
