package policycmd

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// TestCoverageMode: a denial that holds in report mode too is not a sign that a
// repository is enforced, unless nothing else is known of it.
func TestCoverageMode(t *testing.T) {
	day := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	always := audit.Decided{Mode: "enforce", Verdict: "deny", Reason: "policy_denied", Input: []byte("{}")}
	observed := audit.Decided{Mode: "report", Verdict: "allow", Reason: "no_rule_matched", WouldDeny: true, Input: []byte("{}")}
	enforced := audit.Decided{Mode: "enforce", Verdict: "deny", Reason: "no_rule_matched", Input: []byte("{}")}
	for _, c := range []struct {
		want  string
		order []audit.Decided
	}{
		{"enforce", []audit.Decided{always}},
		{"report", []audit.Decided{observed, always}},
		{"report", []audit.Decided{always, observed}},
		{"report", []audit.Decided{enforced, always, observed, always}},
		{"enforce", []audit.Decided{observed, enforced}},
		{"enforce", []audit.Decided{observed, enforced, always}},
	} {
		for _, reversed := range []bool{false, true} { // a log is read in any order
			r := &rolloutRow{}
			for i := range c.order {
				at := i
				if reversed {
					at = len(c.order) - 1 - i
				}
				d := c.order[at]
				d.Time = day.Add(time.Duration(at) * time.Minute)
				r.add(&d)
			}
			if r.Mode != c.want {
				t.Errorf("%+v, reversed %t: %s", c.order, reversed, r.Mode)
			}
		}
	}
}

// TestCoverageRenamed: a repository that was renamed is not one that was never seen.
func TestCoverageRenamed(t *testing.T) {
	const uuid = "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"
	v := &rollout{rows: map[string]*rolloutRow{}, latest: map[string]*rolloutRow{}}
	v.latest[uuid] = v.row("acme/old")
	v.listed(identity.KnownName{RepositoryUUID: uuid, FullName: "acme/new"})
	v.listed(identity.KnownName{RepositoryUUID: "0f000000-0000-4000-8000-000000000003", FullName: "acme/other"})
	if len(v.rows) != 2 || v.rows["acme/old"].RenamedTo != "acme/new" || v.rows["acme/other"] == nil {
		t.Errorf("%+v", v.rows)
	}
	// Seen under both names.
	v.latest[uuid] = v.row("acme/new")
	v.listed(identity.KnownName{RepositoryUUID: uuid, FullName: "acme/new"})
	if len(v.rows) != 3 || v.rows["acme/new"].RenamedTo != "" {
		t.Errorf("%+v", v.rows)
	}
}
