package reader

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
)

// TestReadOnlyPrimaryIsDropped: a primary that becomes read-only, and lives on, is
// left for the one that can be written to: by the writer, the sealer, the readers of
// denials, approvals and sealed events, and by who records a policy.
func TestReadOnlyPrimaryIsDropped(t *testing.T) {
	t.Parallel()
	p := audittest.StartPair(t)
	p.Primary.SynchronousStandby(t, "second")
	l := writertest.Open(t, p.Url(database.Writer), func(c *auditwriter.Config) { c.WriteTimeout = time.Second })
	s := sealertest.Open(t, p.Url(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "")))
	step := audittest.StepOf(repositoryA, stepA)
	audittest.RecordDenial(t, l, step, 1, time.Now())
	audittest.Seal(t, s)
	d := openSteps(t, p.Url(database.Writer))
	if list, _, err := d.Step(t.Context(), step, 10); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	approvals, err := OpenApprovals(t.Context(), p.Url(database.Writer))
	if err != nil {
		t.Fatal(err)
	}
	defer approvals.Close()
	follower, err := OpenFollower(t.Context(), p.Url(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { follower.Close() }()

	p.Primary.SynchronousStandby(t, "")
	p.Standby.Promote(t)
	p.Primary.ReadOnly(t) // its sessions stay open
	audittest.RecordDenial(t, l, step, 2, time.Now())
	loaded := audittest.Decision("", 3)
	loaded.Kind, loaded.Verdict, loaded.Commit, loaded.Revision = audit.KindPolicyLoaded, "", "c0ffee", "sha256:aa"
	audittest.Record(t, l, loaded)
	audittest.Eventually(t, "the sealer has moved", func() bool { return s.Seal(t.Context()) == nil })
	audittest.Eventually(t, "denials are read from the new primary", func() bool {
		list, _, err := d.Step(t.Context(), step, 10)
		return err == nil && len(list) == 2
	})
	audittest.Eventually(t, "approvals are read from the new primary", func() bool {
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
	audittest.Close(t, l)
	audittest.Sound(t, audittest.Connect(t, p.Second().URL("")))
	if err := s.Seal(t.Context()); err != nil {
		t.Error(err)
	}
	audittest.CheckReport(t, verify(t, p.Second(), audit.Trust{}), 6, 0)
}
