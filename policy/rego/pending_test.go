package rego

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// stuckTests are workers in which the tests of one repository do not end before they
// are released.
type stuckTests struct {
	Workers
	repository string
	reached    chan struct{} // closed when they have begun
	release    chan struct{}
}

func (s *stuckTests) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	if len(call.Request) > 0 && call.Request[0] == requestTest && call.Share == s.repository {
		close(s.reached)
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Workers.Do(ctx, call)
}

const passingTest = "-- repositories/acme/tools/a_test.rego --\npackage sallyport.repository_test[\"acme/tools\"]\n\ntest_x if true\n"

var toolsTwo = strings.Replace(toolsGood, `"rule": "mirrors"`, `"rule": "two"`, 1)

// TestDeferredChecks: the organization's deny is in force while a changed folder is not
// checked; the folder's repository has its earlier rules until then, and is denied if
// there are none. A passing folder is in force afterwards, and a failing one rejected.
func TestDeferredChecks(t *testing.T) {
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	const fresh = "-- repositories/acme/fresh/a.rego --\npackage sallyport.repository[\"acme/fresh\"]\n\nallow contains {\"rule\": \"fresh\"}\n"
	after := orgAfter + listAfter + websiteOne + fresh
	load := func(tools string, options Options) *Set {
		options.Defer, options.Previous = true, first
		return mustLoadWith(t, after+tools, options)
	}
	set := load(toolsTwo, Options{})
	if got := set.Pending(); len(got) != 2 || got[0].Repository != "acme/fresh" || got[0].Kept.Digest != "" || got[1].Repository != "acme/tools" || got[1].Kept != first.Revision() {
		t.Fatalf("pending: %+v", got)
	}
	wantDecision(t, set, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
	wantDecision(t, set, "allow policy_allowed rule=one rules=one,own-rules", "repository=acme/website", "to=x.example:443")
	d := wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
	if d.RepositoryRevision != first.Revision() || !strings.Contains(d.Notice, "being checked") {
		t.Errorf("the rules are of %v, %q", d.RepositoryRevision, d.Notice)
	}
	if _, err := set.Decide(t.Context(), requestFor(t, "repository=acme/fresh", "to=x.example:443")); !isPending(err) {
		t.Errorf("a new folder that is not checked: %v", err)
	}
	// A later revision in which it is pending still has the same earlier rules.
	later := mustLoadWith(t, after+toolsTwo+"-- data/more.yaml --\nx: 1\n", Options{Defer: true, Previous: set})
	if got := later.Pending(); len(got) != 2 || got[1].Kept != first.Revision() {
		t.Errorf("a revision later: %+v", got)
	}

	var e Engine
	e.Swap(set)
	settle := func(set *Set, names ...string) *Set {
		t.Helper()
		var outcomes []*Checked
		for _, name := range names {
			c, err := e.Check(t.Context(), set, name, 0)
			if err != nil {
				t.Fatal(err)
			}
			outcomes = append(outcomes, c)
		}
		settled, accepted := set.Settle(outcomes)
		if len(accepted) != len(names) {
			t.Fatalf("%d of %d outcomes were accepted", len(accepted), len(names))
		}
		return settled
	}
	settled := settle(set, "acme/tools")
	if got := settled.Pending(); len(got) != 1 {
		t.Errorf("still pending: %+v", got)
	}
	d = wantDecision(t, settled, "allow policy_allowed rule=two rules=two,own-rules", "repository=acme/tools", "to=other.example:443")
	if d.RepositoryRevision != (policy.Revision{}) || d.Notice != "" {
		t.Errorf("settled, the rules are of %v, %q", d.RepositoryRevision, d.Notice)
	}
	wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443") // the set before is the same
	settled = settle(settled, "acme/fresh")
	wantDecision(t, settled, "allow policy_allowed rule=fresh rules=fresh,own-rules", "repository=acme/fresh", "to=other.example:443")
	if reloaded := mustLoadWith(t, after+toolsTwo+"-- data/more.yaml --\nx: 1\n", Options{Defer: true, Previous: settled}); len(reloaded.Pending()) != 0 {
		t.Errorf("what was settled is checked again: %+v", reloaded.Pending())
	}

	for _, onFailure := range []RepositoryFailure{KeepPrevious, DenyRepository} {
		failing := settle(load(toolsFailing, Options{OnFailure: onFailure}), "acme/tools")
		rejected := failing.Rejected()
		if len(rejected) != 1 || !strings.Contains(rejected[0].Failure.Error(), "a_test.rego:3") {
			t.Fatalf("rejected: %+v", rejected)
		}
		if onFailure == DenyRepository {
			wantDenied(t, failing, "a_test.rego:3")
			continue
		}
		d := wantDecision(t, failing, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
		if d.RepositoryRevision != first.Revision() {
			t.Errorf("rejected, the rules are of %v", d.RepositoryRevision)
		}
	}
}

func isPending(err error) bool {
	_, is := errors.AsType[*PendingError](err)
	return is
}

// TestDeferIsNeeded: without it, the organization's deny waits for the tests of a folder.
func TestDeferIsNeeded(t *testing.T) {
	t.Parallel()
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood, Options{OnFailure: KeepPrevious})
	after := snapshot(t, orgAfter+listAfter+toolsTwo+passingTest)
	for _, deferred := range []bool{true, false} {
		stuck := &stuckTests{defaultWorkers(), "acme/tools", make(chan struct{}), make(chan struct{})}
		options := Options{Names: true, Deadline: 5 * time.Second, OnFailure: KeepPrevious, Previous: first, Workers: stuck, Defer: deferred}
		ctx, cancel := context.WithCancel(t.Context())
		loaded := make(chan *Set, 1)
		go func() {
			set, _ := Load(ctx, after, options)
			loaded <- set
		}()
		if deferred {
			wantDecision(t, <-loaded, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
		} else {
			// It waits for the tests, which end with its context only.
			<-stuck.reached
			cancel()
			if set := <-loaded; set != nil {
				t.Error("the organization's deny was in force before the tests had ended")
			}
		}
		cancel()
		close(stuck.release)
	}
}

// TestStaleOutcomes: the outcome of a check counts only for the files, documents and
// library that were checked.
func TestStaleOutcomes(t *testing.T) {
	t.Parallel()
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood, Options{OnFailure: KeepPrevious})
	load := func(files string) *Set {
		return mustLoadWith(t, files, Options{OnFailure: KeepPrevious, Defer: true, Previous: first})
	}
	other := "-- data/y.yaml --\ny: 1\n"
	var e Engine
	for name, c := range map[string]struct {
		checked, now string
		accepted     bool
	}{
		"the same":                         {toolsTwo + listBefore, toolsTwo + listBefore, true},
		"a document that it does not read": {toolsTwo + listBefore, toolsTwo + listBefore + other, true},
		"a document that it reads":         {toolsTwo + listBefore, toolsTwo + listAfter, false},
		"another file":                     {toolsTwo + listBefore, toolsTwo + listBefore + passingTest, false},
		"a failure, and another document":  {toolsFailing + listBefore, toolsFailing + listBefore + other, false},
		"a failure, and nothing else":      {toolsFailing + listBefore, toolsFailing + listBefore, true},
	} {
		outcome, err := e.Check(t.Context(), load(orgAfter+c.checked), "acme/tools", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, accepted := load(orgAfter + c.now).Settle([]*Checked{outcome}); len(accepted) == 1 != c.accepted {
			t.Errorf("%s: accepted %d outcomes", name, len(accepted))
		}
	}
}

// endedTests are workers that every attempt to run tests within a short limit ends.
type endedTests struct {
	Workers
	classes []worker.Class // of the calls that run tests
}

func (e *endedTests) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	if call.Request[0] == requestTest {
		e.classes = append(e.classes, call.Class)
		if call.Uncounted && call.Limit < testsTimeout {
			return nil, &worker.Death{Cause: worker.OutOfMemory}
		}
	}
	return e.Workers.Do(ctx, call)
}

// TestAttempts: an attempt with a short limit has no outcome for a policy that takes
// longer, or that ends its worker. Without a limit the check has one, and is a long call.
func TestAttempts(t *testing.T) {
	t.Parallel()
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood, Options{OnFailure: KeepPrevious})
	workers := &endedTests{Workers: defaultWorkers()}
	set := mustLoadWith(t, orgAfter+listBefore+toolsTwo+passingTest, Options{OnFailure: KeepPrevious, Defer: true, Previous: first, Workers: workers})
	var e Engine
	if c, err := e.Check(t.Context(), set, "acme/tools", 2*time.Second); !errors.Is(err, ErrAttempt) {
		t.Fatalf("%+v, %v", c, err)
	}
	c, err := e.Check(t.Context(), set, "acme/tools", 0)
	if err != nil || c.Failure != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if want := []worker.Class{worker.Background, worker.Long}; !slices.Equal(workers.classes, want) {
		t.Errorf("calls of classes %v, want %v", workers.classes, want)
	}
}

// TestPendingAfterRestart: a policy that was not checked when its process ended is pending
// in the next one, with the same earlier rules in force.
func TestPendingAfterRestart(t *testing.T) {
	t.Parallel()
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood+websiteOne, Options{OnFailure: KeepPrevious})
	files := orgAfter + listAfter + websiteOne + toolsTwo
	set := mustLoadWith(t, files, Options{OnFailure: KeepPrevious, Defer: true, Previous: first})
	findings, kept := set.Findings(), set.Kept()
	if findings == nil || len(kept) != 1 || !bytes.Contains(findings, []byte(`"pending":true`)) {
		t.Fatalf("findings %s, kept %v", findings, kept)
	}
	options := Options{Names: true, Deadline: 5 * time.Second, OnFailure: KeepPrevious, Kept: kept}
	resumed, err := Resume(t.Context(), set.Snapshot(), findings, options)
	if err != nil {
		t.Fatal(err)
	}
	next := mustLoadWith(t, files, Options{OnFailure: KeepPrevious, Defer: true, Previous: resumed})
	for _, s := range []*Set{resumed, next} {
		if got := s.Pending(); len(got) != 1 || got[0].Repository != "acme/tools" || got[0].Kept != first.Revision() {
			t.Fatalf("pending: %+v", got)
		}
		d := wantDecision(t, s, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
		if d.RepositoryRevision != first.Revision() {
			t.Errorf("the rules are of %v", d.RepositoryRevision)
		}
	}
	if next.Inspected() != 1 {
		t.Errorf("%d policies were checked again", next.Inspected())
	}
	// Without the earlier rules it is denied until it is checked.
	options.Kept = nil
	if resumed, err = Resume(t.Context(), set.Snapshot(), findings, options); err != nil {
		t.Fatal(err)
	}
	if _, err := resumed.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=mirror.example:443")); !isPending(err) {
		t.Errorf("without earlier rules: %v", err)
	}
}

// TestRetryable: a fault that a loaded machine may cause is distinguished from a fault of
// the files.
func TestRetryable(t *testing.T) {
	t.Parallel()
	first := mustLoadWith(t, orgBefore+listBefore+toolsGood, Options{OnFailure: KeepPrevious})
	for name, c := range rejections {
		set := mustLoadWith(t, orgAfter+listBefore+c.files, Options{OnFailure: KeepPrevious, Previous: first})
		if got, want := Retryable(set.Rejected()[0].Failure), name == "rules without end"; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if Retryable(errors.New("x")) || Retryable(nil) || Retryable(Errors{{Retry: true}, {}}) || !Retryable(TestsFailed{Errors{{Retry: true}}}) {
		t.Error("it is not the faults that decide")
	}
}

// TestCandidateKeepsActiveRules: a repository whose folder fails in a candidate is
// evaluated with the rules of the active revision, and not with an earlier candidate's.
func TestCandidateKeepsActiveRules(t *testing.T) {
	t.Parallel()
	active := mustLoadWith(t, orgBefore+listBefore+toolsGood, Options{OnFailure: KeepPrevious})
	before := mustLoadWith(t, orgBefore+listBefore+toolsTwo, Options{OnFailure: KeepPrevious, Background: true, Fallback: active})
	set := mustLoadWith(t, orgAfter+listBefore+toolsFailing, Options{OnFailure: KeepPrevious, Background: true, Previous: before, Fallback: active})
	wantDecision(t, set, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
	d := wantDecision(t, set, "allow policy_allowed rule=mirrors rules=mirrors,own-rules", "repository=acme/tools", "to=mirror.example:443")
	if d.RepositoryRevision != active.Revision() || len(set.Rejected()) != 1 {
		t.Errorf("the rules are of %v, rejected %v", d.RepositoryRevision, set.Rejected())
	}
}
