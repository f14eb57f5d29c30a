package rego

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// patient are options for a busy machine.
var patient = Options{Names: true, Deadline: 5 * time.Second}

// forged are findings, with a correct digest and sum, by which every policy of a tree has
// passed: a user with write access to the data directory can write them.
func forged(t testing.TB, tree *policy.Snapshot, list ...finding) []byte {
	t.Helper()
	body, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	head, err := json.Marshal(findingsHead{findingsFormat, fingerprint(), tree.Digest, true, sum(body)})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "%s\n%s", head, body)
}

// recorded adds the library to a tree, as on the disk.
func recorded(t testing.TB, text string) *policy.Snapshot {
	t.Helper()
	tree, err := policy.NewSnapshot(append(snapshot(t, text).Files, Library()...), "")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestResume: the next process checks the organization's policy and changed ones only, and
// decides as this one.
func TestResume(t *testing.T) {
	many := scale{repositories: 30}
	first := mustLoadTree(t, many.snapshot(t), patient)
	findings := first.Findings()
	resumed, err := Resume(t.Context(), first.Snapshot(), findings, patient)
	if err != nil || resumed.Inspected() != 1 || resumed.Revision() != first.Revision() || len(resumed.Warnings()) != len(first.Warnings()) {
		t.Fatalf("%d were checked, %v", resumed.Inspected(), err)
	}
	again := mustLoadTree(t, many.snapshot(t), Options{Names: true, Deadline: patient.Deadline, Previous: resumed})
	if again.Inspected() != 1 || !bytes.Equal(again.Findings(), findings) {
		t.Errorf("%d of the same were checked again", again.Inspected())
	}
	for i := range 30 {
		words := []string{fmt.Sprintf("repository=acme/r-%d", i), fmt.Sprintf("to=host-3.r-%d.example:443", i), "deployment=production"}
		want := described(first.Decide(t.Context(), requestFor(t, words...)))
		for name, set := range map[string]*Set{"resumed": resumed, "loaded again": again} {
			if got := described(set.Decide(t.Context(), requestFor(t, words...))); got != want {
				t.Errorf("%v %s: %s, want %s", words, name, got, want)
			}
		}
	}
	// Of what changed meanwhile each thing is checked, and nothing else.
	for name, changed := range map[string]scale{
		"a repository":     {repositories: 30, own: map[int]string{7: "# more\n"}},
		"a document":       {repositories: 30, documents: map[int]string{10: "  - more.example\n"}},
		"a new repository": {repositories: 31},
	} {
		next := mustLoadTree(t, changed.snapshot(t), Options{Names: true, Deadline: patient.Deadline, Previous: resumed})
		if next.Inspected() != 2 {
			t.Errorf("%s: %d were checked, want the organization's and one", name, next.Inspected())
		}
	}
	if set := mustLoadTree(t, many.snapshot(t), Options{Names: true, SkipTests: true}); set.Findings() != nil {
		t.Error("there are findings of what was not tested")
	}
}

// TestFindingsOfAnother: findings of another policy, program or option, or with one
// changed byte, are not used.
func TestFindingsOfAnother(t *testing.T) {
	many := scale{repositories: 11}
	set := mustLoadTree(t, many.snapshot(t), patient)
	other := mustLoadTree(t, scale{repositories: 12}.snapshot(t), patient)
	good := set.Findings()
	newer := bytes.Replace(good, []byte(fingerprint()), []byte(strings.Repeat("0", 64)), 1)
	for name, findings := range map[string][]byte{"none": nil, "empty": {}, "another policy's": other.Findings(), "another program's": newer, "half": good[:len(good)/2]} {
		if _, err := Resume(t.Context(), set.Snapshot(), findings, patient); !errors.Is(err, ErrFindings) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Resume(t.Context(), set.Snapshot(), good, Options{}); !errors.Is(err, ErrFindings) {
		t.Errorf("without names: %v", err)
	}
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 1
		if _, err := readFindings(damaged, set.snapshot.Digest, true); err == nil {
			t.Fatalf("with another byte at %d they are taken: %s", i, damaged)
		}
	}
}

// TestForgedFindings: with forged findings by which all policies passed, a policy that
// fails does not decide. The repository is denied everything, and the error has the
// location of the fault. Without the check for the first request the policy is in force.
func TestForgedFindings(t *testing.T) {
	const organization = "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"d\"}\n"
	const good = "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"own\"}\n"
	own := func(text string) string {
		return "-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\n" + text + "\n"
	}
	for name, c := range map[string]struct{ files, where string }{
		"a doubled id":                 {own("allow contains {\"rule\": \"x\"} if input.target.port == 443\n\ndeny contains {\"rule\": \"y\"} if input.target.port == 1\n\nallow contains {\"rule\": \"x\"}"), "repositories/acme/payments/a.rego:7:"},
		"a field that is not":          {own("allow contains {\"rule\": \"x\"} if not input.target.hots"), "repositories/acme/payments/a.rego:3:"},
		"a failing test":               {own("allow contains {\"rule\": \"x\"}") + "-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\nimport data.sallyport.repository[\"acme/payments\"] as own\n\ntest_closed if count(own.allow) == 0\n", "repositories/acme/payments/a_test.rego:5"},
		"a test that a document fails": {own("allow contains {\"rule\": \"x\"} if data.open") + "-- data/x.yaml --\nopen: true\n-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\nimport data.sallyport.repository[\"acme/payments\"] as own\n\ntest_closed if count(own.allow) == 0\n", "repositories/acme/payments/a_test.rego:5"},
		"report":                       {own("report contains {\"rule\": \"r\"}\n\nallow contains {\"rule\": \"x\"}"), "repositories/acme/payments/a.rego:3:"},
	} {
		tree := recorded(t, organization+good+c.files)
		if _, err := Load(t.Context(), tree, Options{Names: true, Recorded: true}); err == nil {
			t.Fatalf("%s: it loads", name)
		}
		cached, err := Resume(t.Context(), tree, forged(t, tree), patient)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// As what decides from the disk, and as what the next revision is compared with.
		plain := snapshot(t, organization+good+c.files)
		next := mustLoadTree(t, plain, Options{Names: true, Deadline: patient.Deadline, Previous: cached})
		for at, set := range map[string]*Set{"from disk": cached, "from its source": next} {
			d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/payments"))
			if d.Verdict != policy.Deny || d.Reason != policy.PolicyError || err == nil || !strings.Contains(err.Error(), c.where) {
				t.Errorf("%s %s: %s, %v", name, at, described(d, nil), err)
			}
			if got := described(set.Decide(t.Context(), requestFor(t, "repository=acme/tools"))); got != "allow policy_allowed rule=own rules=own,d" {
				t.Errorf("%s %s: the other repository: %s", name, at, got)
			}
		}
		// One that is asked about keeps the revision from deciding at all.
		engine := &Engine{}
		engine.Swap(mustLoadTree(t, snapshot(t, organization+good+own("allow contains {\"rule\": \"old\"}")), patient))
		if _, err := engine.Decide(t.Context(), requestFor(t, "repository=acme/payments")); err != nil {
			t.Fatal(err)
		}
		unseen := mustLoadTree(t, plain, Options{Names: true, Deadline: patient.Deadline, Previous: cached})
		if err := engine.Prepare(t.Context(), unseen); err == nil || !strings.Contains(err.Error(), c.where) {
			t.Errorf("%s: it would take the place of what decides: %v", name, err)
		}
		// Without the check it is in force.
		open, err := Resume(t.Context(), tree, forged(t, tree), patient)
		if err != nil {
			t.Fatal(err)
		}
		open.units["acme/payments"].cached = nil
		if d, err := open.Decide(t.Context(), requestFor(t, "repository=acme/payments")); name != "a field that is not" && name != "report" && (err != nil || d.Verdict != policy.Allow) {
			t.Errorf("%s, without being checked: %s, %v", name, described(d, nil), err)
		}
	}
	// The organization's policy is never cached.
	tree := recorded(t, "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"x\"} if input.nothing\n")
	if _, err := Resume(t.Context(), tree, forged(t, tree), patient); err == nil || !strings.Contains(err.Error(), "egress/a.rego:3:") {
		t.Errorf("the organization's: %v", err)
	}
	failing := snapshot(t, organization+"-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_no if false\n")
	tree = recorded(t, organization+"-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_no if false\n")
	cached, err := Resume(t.Context(), tree, forged(t, tree), patient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), failing, Options{Names: true, Previous: cached}); err == nil || !strings.Contains(err.Error(), "test_no") {
		t.Errorf("the organization's tests: %v", err)
	}
}

// TestFindingsThatHideWhatIsRead: forged findings cannot hide which documents a repository
// reads. The check for the first request finds them, and is made with the documents of
// that time.
func TestFindingsThatHideWhatIsRead(t *testing.T) {
	text := func(open string) string {
		return "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"d\"}\n" +
			"-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"x\"} if data.list.open\n" +
			"-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\nimport data.sallyport.repository[\"acme/payments\"] as own\n\ntest_closed if count(own.allow) == 0\n" +
			"-- data/list/x.yaml --\nopen: " + open + "\n"
	}
	tree := recorded(t, text("false"))
	cached, err := Resume(t.Context(), tree, forged(t, tree), patient) // by these findings it reads nothing
	if err != nil {
		t.Fatal(err)
	}
	options := patient
	options.Previous = cached
	next := mustLoadTree(t, snapshot(t, text("true")), options)
	if got := described(next.Decide(t.Context(), requestFor(t))); got != "deny policy_error error" {
		t.Errorf("with a document that its test fails for: %s", got)
	}
	if got := described(cached.Decide(t.Context(), requestFor(t))); got != "deny no_rule_matched" {
		t.Errorf("with the one that passes: %s", got)
	}
	if _, err := Load(t.Context(), snapshot(t, text("true")), options); err == nil || !strings.Contains(err.Error(), "test_closed") {
		t.Errorf("when it is known what it reads: %v", err)
	}
}

// TestCheckedAgain: a repository that fails the check for its first request is checked
// again later, because the machine may have been too busy for its tests.
func TestCheckedAgain(t *testing.T) {
	const slow = "-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\ntest_slow if {\n\tsome i, _ in numbers.range(1, 2000)\n\ti < 0\n} else := true\n"
	tree := recorded(t, "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"d\"}\n-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"own\"}\n"+slow)
	set, err := Resume(t.Context(), tree, forged(t, tree), patient)
	if err != nil {
		t.Fatal(err)
	}
	set.loader.testsTime = time.Microsecond
	for range 2 {
		if _, err := set.Decide(t.Context(), requestFor(t)); err == nil || !strings.Contains(err.Error(), "repositories/acme/payments/a_test.rego:") || !strings.Contains(err.Error(), "1µs together") {
			t.Fatalf("without time for its tests: %v", err)
		}
		set.loader.testsTime = testsTimeout // in time for the second, which is too early
	}
	if refused := set.Refused(); len(refused) != 1 || refused[0] != "acme/payments" {
		t.Errorf("it says that these are refused: %v", refused)
	}
	lazy := set.programs.get("acme/payments", nil)
	if lazy.again.IsZero() {
		t.Fatal("it is never tried again")
	}
	lazy.again = time.Now().Add(-time.Second)
	if got := described(set.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=own rules=own,d" {
		t.Errorf("when it is tried again: %s", got)
	}
	if refused := set.Refused(); len(refused) != 0 {
		t.Errorf("it says that these are refused still: %v", refused)
	}
}

// TestManySlowTests: slow tests of one repository delay the next revision by no more than
// the limit on all tests of a repository.
func TestManySlowTests(t *testing.T) {
	var tests strings.Builder
	for i := range 300 {
		fmt.Fprintf(&tests, "test_%d if {\n\tsome i, _ in numbers.range(1, 30000)\n\ti == %d\n}\n\n", i, 29_999-i)
	}
	tree := snapshot(t, "-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\n"+tests.String())
	l := newLoader(tree, patient)
	l.testsTime = 50 * time.Millisecond
	_, err := l.load(t.Context())
	if _, ok := errors.AsType[TestsFailed](err); !ok || !strings.Contains(err.Error(), "not all were run") || !strings.Contains(err.Error(), "repositories/acme/payments/a_test.rego:") {
		t.Errorf("%.300v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := newLoader(tree, patient).load(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("when its context has ended: %v", err)
	}
}

// TestResumedUnderLoad: repositories send their first requests while revisions are loaded
// and swapped.
func TestResumedUnderLoad(t *testing.T) {
	const n = 30
	first := mustLoadTree(t, scale{repositories: n}.snapshot(t), patient)
	resumed, err := Resume(t.Context(), first.Snapshot(), first.Findings(), patient)
	if err != nil {
		t.Fatal(err)
	}
	engine := &Engine{}
	engine.Swap(resumed)
	var stop atomic.Bool
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for i := worker; !stop.Load(); i++ {
				d, err := engine.Decide(t.Context(), requestFor(t, fmt.Sprintf("repository=acme/r-%d", i%n), fmt.Sprintf("to=sandbox-%d.partner.example:443", i%n), "branch=x"))
				if err != nil || d.Verdict != policy.Allow {
					t.Errorf("%s, %v", described(d, nil), err)
					return
				}
			}
		})
	}
	set := resumed
	for i := range 5 {
		options := patient
		options.Previous, options.SpareProcessor = set, true
		set = mustLoadTree(t, scale{repositories: n, documents: map[int]string{10: fmt.Sprintf("  - more-%d.example\n", i)}}.snapshot(t), options)
		if err := engine.Prepare(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		engine.Swap(set)
	}
	stop.Store(true)
	group.Wait()
}

// endingContext ends after its error was asked for so often.
type endingContext struct {
	context.Context
	left, after atomic.Int64
}

func (c *endingContext) Err() error {
	if c.left.Add(-1) < 0 {
		c.after.Add(1)
		return context.Canceled
	}
	return nil
}

// TestLoadingStopsWithItsContext: loading ends soon after its context, at any stage.
func TestLoadingStopsWithItsContext(t *testing.T) {
	tree := scale{repositories: 40}.snapshot(t)
	for _, at := range []int64{0, 1, 5, 20, 45} {
		ctx := &endingContext{Context: t.Context()}
		ctx.left.Store(at)
		if _, err := Load(ctx, tree, patient); !errors.Is(err, context.Canceled) {
			t.Errorf("after %d looks: %v", at, err)
		}
		if n := ctx.after.Load(); n > 8 {
			t.Errorf("after %d looks it went on for %d", at, n)
		}
	}
}

// FuzzFindings reads arbitrary findings, with a correct head, for a policy with one
// repository that passes and one that does not. Whatever their content, the first decides
// as before, and the second never does.
func FuzzFindings(f *testing.F) {
	f.Add([]byte("[]"))
	f.Add([]byte(`[{"repository":"acme/tools","all":true},{"repository":"acme/payments","reads":["x"]}]`))
	tree, err := policy.NewSnapshot(append(snapshot(f, "-- egress/a.rego --\npackage sallyport.egress\n\ndelegate contains {\"rule\": \"d\"}\n"+
		"-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"own\"} if data.list.open\n"+
		"-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"a\"}\n\nallow contains {\"rule\": \"b\"} if input.target.port == 443\n\nallow contains {\"rule\": \"a\"} if true\n"+
		"-- data/list/x.yaml --\nopen: true\n").Files, Library()...), "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		head, err := json.Marshal(findingsHead{findingsFormat, fingerprint(), tree.Digest, true, sum(body)})
		if err != nil {
			t.Fatal(err)
		}
		set, err := Resume(t.Context(), tree, fmt.Appendf(head, "\n%s", body), patient)
		if errors.Is(err, ErrFindings) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := described(set.Decide(t.Context(), requestFor(t, "repository=acme/tools"))); got != "allow policy_allowed rule=own rules=own,d" {
			t.Errorf("the one that passes: %s", got)
		}
		if got := described(set.Decide(t.Context(), requestFor(t))); got != "deny policy_error error" {
			t.Errorf("the one that does not: %s", got)
		}
	})
}
