package postgres

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// TestReadOnlyPrimaryIsDropped: a primary that becomes read-only, and lives on, is
// left for the one that can be written to: by the writer, the sealer, the readers of
// denials, approvals and sealed events, and by who records a policy.
func TestReadOnlyPrimaryIsDropped(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	p.primary.SynchronousStandby(t, "second")
	l := logFor(t, p.url(database.Writer), func(c *Config) { c.WriteTimeout = time.Second })
	s := sealerFor(t, p.url(database.Writer), l, withKey(newKey(t, "")))
	step := stepOf(repositoryA, stepA)
	refused(t, l, step, 1, time.Now())
	seal(t, s)
	d := openDenials(t, p.url(database.Writer))
	if list, err := d.Denials(t.Context(), step, 10); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	approvals, err := OpenApprovals(t.Context(), p.url(database.Writer))
	if err != nil {
		t.Fatal(err)
	}
	defer approvals.Close()
	follower, err := OpenFollower(t.Context(), p.url(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { follower.Close() }()

	p.primary.SynchronousStandby(t, "")
	p.standby.Promote(t)
	p.primary.ReadOnly(t) // its sessions stay open
	refused(t, l, step, 2, time.Now())
	loaded := decision("", 3)
	loaded.Kind, loaded.Verdict, loaded.Commit, loaded.Revision = audit.KindPolicyLoaded, "", "c0ffee", "sha256:aa"
	record(t, l, loaded)
	eventually(t, "the sealer has moved", func() bool { return s.Seal(t.Context()) == nil })
	eventually(t, "denials are read from the new primary", func() bool {
		list, err := d.Denials(t.Context(), step, 10)
		return err == nil && len(list) == 2
	})
	eventually(t, "approvals are read from the new primary", func() bool {
		list, err := approvals.Unapproved(t.Context(), time.Now().Add(-time.Hour))
		return err == nil && len(list) == 1
	})
	var lost error
	follower.checked = time.Time{}
	for next := int64(0); lost == nil; {
		var entries []audit.Entry
		if entries, lost = follower.Next(t.Context(), next); lost == nil && len(entries) == 0 {
			t.Fatal("the reader of sealed events stays on the former primary")
		}
		next += int64(len(entries))
	}
	if !IsLost(lost) {
		t.Errorf("not an error that another connection heals: %v", lost)
	}
	shut(t, l)
	sound(t, connection(t, p.second().URL("")))
	if err := s.Seal(t.Context()); err != nil {
		t.Error(err)
	}
	proven(t, verify(t, p.second(), audit.Trust{}), 6, 0)
}
