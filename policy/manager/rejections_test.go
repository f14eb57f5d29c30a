package manager

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

var (
	at      = time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)
	earlier = policy.Revision{Digest: "sha256:feed", Commit: "c0ffee"}
)

func failing(repository, message string, kept policy.Revision) rego.Rejection {
	file := "repositories/" + repository + "/a.rego"
	return rego.Rejection{Repository: repository, Failure: rego.Errors{{File: file, Line: 3, Message: message}}, Kept: kept}
}

// TestActivate: a rejection is new once, until its cause or its rules change.
func TestActivate(t *testing.T) {
	var r Rejections
	if r.Warning() != nil {
		t.Error("a warning without a rejection")
	}
	steps := []struct {
		list            []rego.Rejection
		news, recovered string
		kept, denied    int
	}{
		{nil, "", "", 0, 0},
		{[]rego.Rejection{failing("acme/a", "x", earlier)}, "acme/a", "", 1, 0},
		{[]rego.Rejection{failing("acme/a", "x", earlier), failing("acme/b", "y", policy.Revision{})}, "acme/b", "", 1, 1},
		{[]rego.Rejection{failing("acme/a", "z", earlier), failing("acme/b", "y", policy.Revision{})}, "acme/a", "", 1, 1},
		{[]rego.Rejection{failing("acme/a", "z", policy.Revision{})}, "acme/a", "acme/b", 0, 1},
		{nil, "", "acme/a", 0, 0},
	}
	for i, step := range steps {
		news, recovered := r.Activate(step.list, at.Add(time.Duration(i)*time.Minute))
		var names []string
		for _, n := range news {
			names = append(names, n.Repository)
		}
		kept, denied := r.Counts()
		if strings.Join(names, " ") != step.news || strings.Join(recovered, " ") != step.recovered || kept != step.kept || denied != step.denied {
			t.Errorf("step %d: news %v, recovered %v, %d kept, %d denied", i, names, recovered, kept, denied)
		}
		if i == 3 {
			const want = "the policy of 2 repositories is rejected; acme/a since 2026-11-30T09:01:00Z, rules of commit c0ffee in force: repositories/acme/a/a.rego:3: z; acme/b since 2026-11-30T09:02:00Z, everything denied: repositories/acme/b/a.rego:3: y"
			if got := r.Warning(); got == nil || got.Error() != want {
				t.Errorf("the warning is\n%v\nwant\n%s", got, want)
			}
		}
	}
	if r.Total(KindLoad) != 4 || r.Warning() != nil {
		t.Errorf("%d in all, %v", r.Total(KindLoad), r.Warning())
	}
}

// TestWarningIsBounded: the text about many rejected repositories is bounded.
func TestWarningIsBounded(t *testing.T) {
	var r Rejections
	var list []rego.Rejection
	for i := range 1000 {
		list = append(list, failing(fmt.Sprintf("acme/r%d", i), strings.Repeat("long ", 1000), policy.Revision{}))
	}
	r.Activate(list, at)
	if text := r.Warning().Error(); len(text) > 20_000 || !strings.Contains(text, "and 980 more") {
		t.Errorf("%d bytes", len(text))
	}
}

// TestEvent: the event names repository, file, both revisions and the author.
func TestEvent(t *testing.T) {
	now := policy.Revision{Digest: "sha256:beef", Commit: "decaf"}
	one := failing("acme/a", "x", earlier)
	e := Event(&one, now, true, at, []audit.Attribute{{Name: "author", Value: "Eve"}})
	e.Normalise()
	record := string(e.AppendRecord(nil))
	for _, want := range []string{
		`"kind":"repository_policy_rejected"`, `"workspace":"acme"`, `"repository":"acme/a"`, `"revision":"sha256:beef"`, `"commit":"decaf"`,
		`"repository_revision":"sha256:feed"`, `"files":"repositories/acme/a/a.rego"`, `"kept_commit":"c0ffee"`, `"author":"Eve"`, `"message":"repositories/acme/a/a.rego:3: x"`,
	} {
		if !strings.Contains(record, want) {
			t.Errorf("no %s in %s", want, record)
		}
	}
	const workspace, repository = "922e118c-f34f-4226-a897-0e0afbec553d", "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"
	one = failing(workspace+"/"+repository, "x", policy.Revision{})
	if e := Event(&one, now, false, at, nil); e.WorkspaceUUID != workspace || e.RepositoryUUID != repository || e.Repository != "" || e.RepositoryRevision != "" {
		t.Errorf("by UUIDs: %+v", e)
	}
}

func TestKindOf(t *testing.T) {
	errs := rego.Errors{{Message: "x"}}
	for want, failure := range map[string]error{KindLoad: errs, KindTests: rego.TestsFailed{Errors: errs}, KindProbe: rego.ProbeFailed{Errors: errs}} {
		if got := KindOf(&rego.Rejection{Failure: failure}); got != want {
			t.Errorf("%T is %s", failure, got)
		}
	}
	if got := KindOf(&rego.Rejection{Failure: errors.New("x")}); got != KindLoad {
		t.Error(got)
	}
}
