package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// A revocation is lifted everywhere within two seconds, admitted tokens of before
// are accepted again, and the record of the revocation stays.
func TestUnrevoke(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	one, two := instance(t, db.URL(database.Writer), 10*time.Hour), instance(t, db.URL(database.Writer), 10*time.Hour)
	step := principal(1)
	one.admits(t, step)
	one.revokes(t, identity.ScopeStep, step.Step.UUID)
	one.revokes(t, identity.ScopeStep, step.Step.UUID)
	one.revokes(t, identity.ScopeRepository, payments)
	for _, h := range []*env{one, two} {
		pgtest.Eventually(t, "revoked", func() bool { return h.Revoked(step.Step.UUID, billing) && h.Revoked("", payments) })
	}
	if n, err := two.Unrevoke(t.Context(), identity.ScopeStep, step.Step.UUID, "eve", "a mistake"); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	for _, h := range []*env{one, two} {
		pgtest.Eventually(t, "lifted", func() bool { return !h.Revoked(step.Step.UUID, billing) })
		if !h.Revoked(step.Step.UUID, payments) {
			t.Error("the repository's revocation went with the step's")
		}
	}
	if list, err := one.Revocations(t.Context()); err != nil || len(list) != 1 || list[0].Scope != identity.ScopeRepository {
		t.Errorf("in force: %+v, %v", list, err)
	}
	if one.honours(t, step) != nil {
		t.Error("honoured while its repository is revoked")
	}
	if n, err := one.Unrevoke(t.Context(), identity.ScopeRepository, payments, "eve", ""); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := one.Unrevoke(t.Context(), identity.ScopeRepository, payments, "eve", ""); err != nil || n != 0 {
		t.Errorf("twice: %d, %v", n, err)
	}
	if one.honours(t, step) == nil {
		t.Error("not honoured although all was lifted")
	}
	conn := pgtest.Connect(t, db.URL(database.Auditor))
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.revocations JOIN identity.revocation_lifts ON id = revocation_id WHERE revocation_lifts.lifted_by = 'eve'"); n != 3 {
		t.Errorf("%d are written", n)
	}
	// It can be revoked again.
	one.revokes(t, identity.ScopeStep, step.Step.UUID)
	pgtest.Eventually(t, "revoked again", func() bool { return two.Revoked(step.Step.UUID, billing) })
}

func TestUnrevokeRefuses(t *testing.T) {
	t.Parallel()
	h := instance(t, migrated(t).URL(database.Writer), 0)
	for name, f := range map[string]func() (int, error){
		"scope":  func() (int, error) { return h.Unrevoke(t.Context(), "all", uuidOf(1), "ada", "") },
		"uuid":   func() (int, error) { return h.Unrevoke(t.Context(), identity.ScopeStep, "*", "ada", "") },
		"nobody": func() (int, error) { return h.Unrevoke(t.Context(), identity.ScopeStep, uuidOf(1), " ", "") },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
