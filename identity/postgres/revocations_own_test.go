package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

// TestRevocationIsInForceWhenReported: a store refuses a step when Revoke
// returns, before it reads the database again. A read that began before the
// commit does not lift the revocation; a read that began after it decides.
func TestRevocationIsInForceWhenReported(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{URL: migrated(t).URL(database.Writer)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // nothing watches: what is in force is what Revoke made
	step := principal(1).Step.UUID
	early := s.reads.Add(1)
	before, err := readRevocations(t.Context(), s.pool)
	if err != nil || len(before) != 0 {
		t.Fatal(before, err)
	}
	if _, err := s.Revoke(t.Context(), identity.ScopeStep, step, time.Now().Add(time.Hour), "eve", ""); err != nil {
		t.Fatal(err)
	}
	if !s.Revoked(step, billing) {
		t.Error("reported as revoked, and not in force")
	}
	s.replace(before, early)
	if !s.Revoked(step, billing) {
		t.Error("an older read has lifted it")
	}
	late := s.reads.Add(1)
	after, err := readRevocations(t.Context(), s.pool)
	if err != nil || len(after) != 1 {
		t.Fatal(after, err)
	}
	s.replace(after, late)
	if !s.Revoked(step, billing) || len(s.own) != 0 {
		t.Errorf("after a read that shows it: own %v", s.own)
	}
	if s.replace(nil, s.reads.Add(1)); s.Revoked(step, billing) {
		t.Error("in force after its end")
	}
}
