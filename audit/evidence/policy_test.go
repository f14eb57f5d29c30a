package evidence

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// table reads a table of a pack, each row by the names of its columns.
func table(t testing.TB, files map[string]string, name string) (rows []map[string]string) {
	t.Helper()
	all, err := csv.NewReader(strings.NewReader(files["tables/"+name+".csv"])).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %v", name, err)
	}
	for _, r := range all[1:] {
		row := map[string]string{}
		for i, column := range all[0] {
			row[column] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// TestActivationsAsTheyWere: each activation has its row with its own source,
// commit and counts. A revision from a directory is not attributed to a commit that
// has the same files, whichever was activated first.
func TestActivationsAsTheyWere(t *testing.T) {
	m := newMemory(t)
	const one, two = "01a1fdf4-0000-7000-8000-00000000000a", "01a1fdf4-0000-7000-8000-00000000000b"
	same, other := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	commits := map[string]string{"A": strings.Repeat("a", 40), "B": strings.Repeat("b", 40), "revert": strings.Repeat("c", 40), "directory": ""}
	n := 0
	load := func(writer, revision, commit string, when time.Time) {
		e := &audit.Event{Time: when, Kind: audit.KindPolicyLoaded, Revision: revision, Commit: commits[commit]}
		if commit == "directory" {
			e.Attributes = []audit.Attribute{{Name: "source", Value: "directory /etc/policy"}}
		} else {
			e.Attributes = []audit.Attribute{{Name: "source", Value: "git"}, {Name: "author", Value: "author of " + commit}, {Name: "signature", Value: "verified"}, {Name: "signer", Value: "signer of " + commit}}
		}
		m.add(writer, e)
	}
	decide := func(writer, revision, commit string, when time.Time, times int) {
		for range times {
			n++
			e := decisionEvent(n, when, "allow", "policy_allowed", "api.partner.example")
			e.Revision, e.Commit = revision, commits[commit]
			m.add(writer, e)
		}
	}
	m.add(one, audit.Register(m.signer, at(1, 0)))
	load(one, same, "A", at(1, 1)) // before the period, the same files from Git
	load(one, same, "directory", at(3, 0))
	decide(one, same, "directory", at(3, 1), 2)
	load(two, same, "A", at(4, 0))
	decide(two, same, "A", at(4, 1), 3)
	load(two, other, "B", at(5, 0))
	decide(two, other, "B", at(5, 1), 4)
	load(two, same, "A", at(6, 0)) // the branch was set back
	decide(two, same, "A", at(6, 1), 5)
	load(two, other, "B", at(7, 0))
	load(two, same, "revert", at(8, 0))
	decide(two, same, "revert", at(8, 1), 6)
	m.seal(at(25, 0))
	dir := build(t, m, func(o *Options) { o.Sample = 100 })
	files := tree(t, dir)
	var got []string
	for _, r := range table(t, files, "activations") {
		got = append(got, strings.Join([]string{r["time"][:10], r["change"], cmp.Or(r["full_commit"], r["commit"]), r["signer"], r["allowed"]}, " | "))
	}
	want := []string{
		"2026-10-03 | return to an earlier revision | none: directory /etc/policy |  | 2",
		"2026-10-04 | start | " + commits["A"] + " | signer of A | 3",
		"2026-10-05 | new | " + commits["B"] + " | signer of B | 4",
		"2026-10-06 | return to an earlier revision | " + commits["A"] + " | signer of A | 5",
		"2026-10-07 | return to an earlier revision | " + commits["B"] + " | signer of B | 0",
		"2026-10-08 | return to an earlier revision | " + commits["revert"] + " | signer of revert | 6",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the activations are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	decided := map[string]string{}
	for _, r := range table(t, files, "revisions") {
		decided[cmp.Or(r["full_commit"], r["commit"])] = r["self_declared_author"] + " " + r["allowed"]
	}
	for commit, want := range map[string]string{commits["A"]: "author of A 8", commits["revert"]: "author of revert 6", "(none: not from Git)": " 2"} {
		if decided[commit] != want {
			t.Errorf("of commit %s the table says %q, want %q", commit, decided[commit], want)
		}
	}
	// The sample page of a decision by the directory names no commit, and that of a
	// decision after the return names the activation in force.
	for name, text := range files {
		if !strings.HasPrefix(name, pack.SamplesFolder) || !strings.HasSuffix(name, ".json") {
			continue
		}
		d, err := pack.ReadSampleDetail([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s, err := recorded.Read(bytes.TrimSpace([]byte(d.Records[0].Record)))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range d.Activations {
			if a.Commit != s.Commit {
				t.Errorf("the decision of %s by commit %q names an activation of %q", s.Time, s.Commit, a.Commit)
			}
		}
		if len(d.Activations) == 0 || d.Activations[0].Time[:10] != s.Time[:10] {
			t.Errorf("the decision of %s names the activations %+v", s.Time, d.Activations)
		}
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestApprovalsOfThePeriod: each activated commit has one row with what was recorded of it,
// whenever that was; of several events the one that is not approved counts, and a
// commit without a record is not shown as approved.
func TestApprovalsOfThePeriod(t *testing.T) {
	m := newMemory(t)
	const one = "01a1fdf4-0000-7000-8000-00000000000a"
	commit := func(digit string) string { return strings.Repeat(digit, 40) }
	m.add(one, audit.Register(m.signer, at(1, 0)))
	say := func(when time.Time, digit, outcome string) {
		m.add(one, &audit.Event{Time: when, Kind: audit.KindPolicyApproval, Commit: commit(digit), Attributes: []audit.Attribute{{Name: "outcome", Value: outcome}, {Name: "approvers", Value: "no JSON"}}})
	}
	load := func(when time.Time, digit string) {
		m.add(one, &audit.Event{Time: when, Kind: audit.KindPolicyLoaded, Revision: "sha256:" + digit, Commit: commit(digit)})
	}
	say(at(1, 1), "a", "approved") // before the period, in which it is activated again
	load(at(3, 0), "a")
	load(at(4, 0), "b")
	say(at(4, 1), "b", "approved")
	say(at(4, 2), "b", "no_pull_request") // a different outcome
	load(at(5, 0), "c")
	load(at(24, 0), "d")
	say(at(25, 2), "d", "approved") // after its end
	say(at(6, 0), "e", "approved")  // never activated
	m.seal(at(25, 0))
	dir := build(t, m, func(o *Options) { o.Sample, o.Size = 0, m.tree.Size() })
	got := map[string]string{}
	for _, r := range table(t, tree(t, dir), "approvals") {
		got[r["commit"][:1]] = r["outcome"] + ", " + r["author_is_not_approver"]
	}
	want := map[string]string{"a": "approved, yes", "b": "no pull request, no", "c": "not recorded, not known", "d": "approved, yes"}
	for digit, outcome := range want {
		if got[digit] != outcome {
			t.Errorf("commit %s: %s, want %s", digit, got[digit], outcome)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}
