package rego

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// The tree of these tests: the organization delegates, acme/tools allows its mirror by
// a document, acme/website allows its own hosts.
const (
	orgBefore    = "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"own-rules\"}\n"
	orgAfter     = "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"own-rules\"}\n\ndeny contains {\"rule\": \"no-partner\"} if input.target.host == \"api.partner.example\"\n"
	listBefore   = "-- data/x.yaml --\nmirrors: [mirror.example, api.partner.example]\n"
	listAfter    = "-- data/x.yaml --\nmirrors: [other.example]\n"
	toolsGood    = "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"mirrors\"} if input.target.host in data.mirrors\n"
	websiteOne   = "-- repositories/acme/website/a.rego --\npackage sallyport.repository[\"acme/website\"]\n\nallow contains {\"rule\": \"one\"}\n"
	websiteTwo   = "-- repositories/acme/website/a.rego --\npackage sallyport.repository[\"acme/website\"]\n\nallow contains {\"rule\": \"two\"}\n"
	toolsProbe   = "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\", \"message\": input.target.port}\n"
	toolsFailing = toolsGood + "-- repositories/acme/tools/a_test.rego --\npackage sallyport.repository_test[\"acme/tools\"]\n\ntest_x if false\n"
)

// rejections are the ways in which the folder of a repository can fail, with a part of the
// failure.
var rejections = map[string]struct{ files, says string }{
	"syntax error":    {toolsGood + "-- repositories/acme/tools/b.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains\n", "repositories/acme/tools/b.rego:4"},
	"another's rules": {strings.Replace(toolsGood, `repository["acme/tools"]`, `repository["acme/website"]`, 1), "repositories/acme/tools/a.rego:1"},
	"an unknown key":  {strings.Replace(toolsGood, `"rule": "mirrors"`, `"rule": "mirrors", "limts": 1`, 1), "repositories/acme/tools/a.rego:3"},
	"a failing test":  {toolsFailing, "repositories/acme/tools/a_test.rego:3"},
	"a fault of the source": {"-- repositories/acme/tools/source-fault.rego --\n" + string(policy.FaultFile("repositories/acme/tools", []policy.Fault{
		{Path: "repositories/acme/tools/link.rego", Message: "it is a symbolic link"}}).Content) + "\n", "repositories/acme/tools/link.rego: it is a symbolic link"},
	"a misplaced file": {toolsGood + "-- repositories/acme/tools/sub/b.rego --\npackage x\n", "repositories/acme/tools/sub/b.rego:1"},
	"a file too large": {toolsGood + "-- repositories/acme/tools/b.rego --\n#" + strings.Repeat("x", maxModuleBytes) + "\n", "repositories/acme/tools/b.rego:1"},
	"rules without end": {"-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\"} if {\n\tsome a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 30000)\n\ta + b == input.target.port + 100000\n}\n",
		"repositories/acme/tools/a.rego:"},
}

// TestRejectedRepository: for each fault in one repository's folder, the organization's
// and the other repository's rules are in force. The repository keeps its earlier rules,
// with the documents that they were checked with, or is denied.
func TestRejectedRepository(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	for name, c := range rejections {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := orgAfter + listAfter + websiteTwo + c.files
			for _, onFailure := range []RepositoryFailure{KeepPrevious, DenyRepository} {
				set := mustLoadWith(t, after, Options{OnFailure: onFailure, Previous: first})
				wantDecision(t, set, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
				wantDecision(t, set, "allow policy_allowed rule=two rules=two,own-rules", "repository=acme/website", "to=x.example:443")
				list := set.Rejected()
				if len(list) != 1 || list[0].Repository != "acme/tools" || !strings.Contains(list[0].Failure.Error(), c.says) {
					t.Fatalf("rejected: %+v, want %s", list, c.says)
				}
				if onFailure == DenyRepository {
					wantDenied(t, set, c.says)
					continue
				}
				d := wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
				if d.Revision != set.Revision() || d.RepositoryRevision != first.Revision() || list[0].Kept != first.Revision() {
					t.Errorf("decided by %v with the rules of %v, kept %v", d.Revision, d.RepositoryRevision, list[0].Kept)
				}
				if !strings.Contains(d.Notice, "rejected") {
					t.Errorf("the notice is %q", d.Notice)
				}
				// A revision later it is the same, and is not checked again.
				later := mustLoadWith(t, after+"-- egress/b.rego --\npackage sallyport.egress\n\nx := 1\n\nallow contains {\"rule\": \"never\"} if x == 2\n", Options{OnFailure: KeepPrevious, Previous: set})
				if d := wantDecision(t, later, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443"); d.RepositoryRevision != first.Revision() {
					t.Errorf("a revision later the rules are of %v", d.RepositoryRevision)
				}
				if later.Inspected() != 1 {
					t.Errorf("%d policies were checked again", later.Inspected())
				}
				// Repaired, it decides by its present rules.
				repaired := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsGood, Options{OnFailure: KeepPrevious, Previous: later})
				d = wantDecision(t, repaired, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=other.example:443")
				if d.RepositoryRevision != (policy.Revision{}) || d.Notice != "" || len(repaired.Rejected()) != 0 {
					t.Errorf("repaired, the rules are of %v, %q, %v", d.RepositoryRevision, d.Notice, repaired.Rejected())
				}
			}
			// Without rules that were there before, it is denied.
			wantDenied(t, mustLoadWith(t, after, Options{OnFailure: KeepPrevious}), c.says)
		})
	}
}

// TestSparingTheRevisionIsNeeded: if the fault of a repository rejects the revision, the
// organization's deny does not take effect.
func TestSparingTheRevisionIsNeeded(t *testing.T) {
	for name, c := range rejections {
		if _, err := loadWith(t, orgAfter+listAfter+websiteTwo+c.files, Options{}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOrganizationIsNotSpared: an error of the organization's own files, and of the
// documents, rejects the revision.
func TestOrganizationIsNotSpared(t *testing.T) {
	for name, files := range map[string]string{
		"its rules":    orgBefore + "-- egress/b.rego --\npackage sallyport.egress\n\nallow contains\n",
		"its tests":    orgBefore + "-- egress/b_test.rego --\npackage sallyport.egress_test\n\ntest_x if false\n",
		"a document":   orgBefore + "-- data/y.yaml --\na: [\n",
		"a lost file":  orgBefore + "-- repositories/a.rego --\npackage x\n",
		"lost folders": orgBefore + "-- repositories/acme/Tools x/a.rego --\npackage x\n",
	} {
		if name != "lost folders" { // alone
			files += toolsGood
		}
		if _, err := loadWith(t, files, Options{OnFailure: KeepPrevious}); err == nil {
			t.Errorf("%s: it loads", name)
		}
	}
}

// TestPrepareRejectsTheRepository: rules that cannot decide recent inputs are rejected for
// their repository only.
func TestPrepareRejectsTheRepository(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	var e Engine
	e.Swap(first)
	if _, err := e.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=mirror.example:443")); err != nil {
		t.Fatal(err)
	}
	set := mustLoadWith(t, orgAfter+listBefore+toolsProbe+websiteTwo, Options{OnFailure: KeepPrevious, Previous: first})
	if err := e.Prepare(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	list := set.Rejected()
	if len(list) != 1 || list[0].Kept != first.Revision() || !strings.Contains(list[0].Cause(), "repositories/acme/tools/a.rego:3") {
		t.Fatalf("rejected: %+v", list)
	}
	if _, ok := errors.AsType[ProbeFailed](list[0].Failure); !ok {
		t.Errorf("the failure is %T", list[0].Failure)
	}
	wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
}

// TestRejectedAfterRestart: the next process keeps the same rules, and checks and
// tests them before they decide.
func TestRejectedAfterRestart(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	second := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsFailing, Options{OnFailure: KeepPrevious, Previous: first})
	kept := second.Kept()
	if len(kept) != 1 || kept[0].Repository != "acme/tools" || kept[0].Revision != first.Revision() || len(kept[0].Files) != 1 {
		t.Fatalf("kept: %+v", kept)
	}
	options := Options{Names: true, Deadline: 5 * time.Second, OnFailure: KeepPrevious, Kept: kept}
	resumed, err := Resume(t.Context(), second.Snapshot(), second.Findings(), options)
	if err != nil {
		t.Fatal(err)
	}
	recalled, err := Recall(t.Context(), second.Snapshot(), options)
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsFailing, Options{OnFailure: KeepPrevious, Fallback: recalled})
	previous := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsFailing, Options{OnFailure: KeepPrevious, Previous: resumed})
	for name, set := range map[string]*Set{"resumed": resumed, "recalled": recalled, "loaded again, recalled": again, "loaded again, resumed": previous} {
		d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=mirror.example:443"))
		if got := described(d, err); got != "allow policy_allowed rule=mirrors rules=mirrors,own-rules" || d.RepositoryRevision != first.Revision() {
			t.Errorf("%s: %s by %v (%v)", name, got, d.RepositoryRevision, err)
		}
		if list := set.Rejected(); len(list) != 1 || list[0].Kept != first.Revision() {
			t.Errorf("%s: rejected %+v", name, list)
		}
	}
	if cause := previous.Rejected()[0].Cause(); !strings.Contains(cause, "repositories/acme/tools/a_test.rego:3") || previous.Inspected() != 1 {
		t.Errorf("the cause is %q, and %d policies were checked", cause, previous.Inspected())
	}
	// What failed before the restart is not kept as the rules before it.
	unknown, err := Recall(t.Context(), second.Snapshot(), Options{Names: true, Deadline: 5 * time.Second, OnFailure: KeepPrevious})
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsFailing, Options{OnFailure: KeepPrevious, Fallback: unknown})
	if list := fresh.Rejected(); len(list) != 1 || list[0].Kept.Digest != "" {
		t.Errorf("rejected rules are kept: %+v", list)
	}
	// A policy that fails its own tests is not in force, although the record lists it as kept.
	options.Kept = []policy.KeptRepository{{Repository: "acme/tools", Revision: first.Revision(), Files: filesOf(second.units["acme/tools"].sources), Shared: kept[0].Shared}}
	forged, err := Recall(t.Context(), second.Snapshot(), options)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := forged.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=mirror.example:443")); err == nil {
		t.Errorf("rules that fail their tests decide: %s", described(d, err))
	}
}

// TestReplayWithBothRevisions: a decision by the rules of two revisions is replayed with
// both.
func TestReplayWithBothRevisions(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	second := mustLoadWith(t, orgAfter+listAfter+websiteTwo+toolsFailing, Options{OnFailure: KeepPrevious, Previous: first})
	d := wantDecision(t, second, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
	recorded := func(set *Set) *Set {
		s, err := Load(t.Context(), set.Snapshot(), Options{Names: true, Recorded: true, Prechecked: true, OnFailure: DenyRepository})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	both, err := recorded(second).WithRepository("acme/tools", recorded(first))
	if err != nil {
		t.Fatal(err)
	}
	again, err := both.Replay(t.Context(), d.Input)
	if described(again, err) != described(d, nil) || again.Revision.Digest != d.Revision.Digest || again.RepositoryRevision.Digest != d.RepositoryRevision.Digest {
		t.Errorf("replayed as %s by %v and %v (%v)", described(again, err), again.Revision, again.RepositoryRevision, err)
	}
	x, err := both.Explain(t.Context(), d.Input)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range x.Rules {
		found = found || r.Rule == "mirrors" && r.Matched && r.File == "repositories/acme/tools/a.rego"
	}
	if !found {
		t.Errorf("explained as %+v", x.Rules)
	}
	if _, err := both.WithRepository("acme/other", first); err == nil {
		t.Error("a repository without rules is taken")
	}
}

// TestImpossibleFolders: a folder whose name no repository can have is rejected alone, and
// the organization's rules are in force. If the name is that of a repository but for upper
// case, the repository keeps the rules that it had.
func TestImpossibleFolders(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	fault := func(folder string) string {
		return "-- " + folder + "/source-fault.rego --\n" + string(policy.FaultFile(folder, []policy.Fault{{Path: folder + "/x", Message: "it is not a path"}}).Content) + "\n"
	}
	for name, c := range map[string]struct {
		files, repository string
		kept              bool
	}{
		"not a name":                 {toolsGood + "-- repositories/acme/a b/a.rego --\npackage x\n", "acme/a b", false},
		"a control character":        {toolsGood + fault("repositories/acme/a\tb"), "acme/a\uFFFDb", false},
		"a fault of the source":      {toolsGood + fault("repositories/acme/\uFFFD"), "acme/\uFFFD", false},
		"UUIDs":                      {toolsGood + "-- repositories/00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002/a.rego --\npackage x\n", "00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002", false},
		"upper case":                 {strings.ReplaceAll(toolsGood, "/acme/tools", "/Acme/Tools"), "acme/tools", true},
		"upper case of another":      {toolsGood + "-- repositories/acme/Tools/a.rego --\npackage x\n", "acme/Tools", false},
		"upper case, and impossible": {toolsGood + "-- repositories/acme/A b/a.rego --\npackage x\n", "acme/A b", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := mustLoadWith(t, orgAfter+listBefore+websiteTwo+c.files, Options{OnFailure: KeepPrevious, Previous: first})
			wantDecision(t, set, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
			wantDecision(t, set, "allow policy_allowed rule=two rules=two,own-rules", "repository=acme/website", "to=x.example:443")
			wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
			list := set.Rejected()
			if len(list) != 1 || list[0].Repository != c.repository || (list[0].Kept == first.Revision()) != c.kept {
				t.Errorf("rejected: %+v, want %s", list, c.repository)
			}
			if _, err := loadWith(t, orgAfter+listBefore+websiteTwo+c.files, Options{}); err == nil {
				t.Error("a check accepts it")
			}
		})
	}
}
