package rego

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// TestFullScale: a policy of many repositories is loaded, resumed by the next process,
// changed in one place, and refused for one faulty repository; and a decision takes as
// many steps as with few. SALLYPORT_REPOSITORIES is the number of repositories; `make
// soak` sets 50,000.
func TestFullScale(t *testing.T) {
	n := 60
	if more, err := strconv.Atoi(os.Getenv("SALLYPORT_REPOSITORIES")); err == nil {
		n = more
	}
	all := scale{repositories: n}
	set := mustLoadTree(t, all.snapshot(t), patient)
	if set.Inspected() != n+1 || len(set.Repositories()) != n {
		t.Errorf("%d were checked of %d repositories", set.Inspected(), len(set.Repositories()))
	}
	few := mustLoadTree(t, scale{repositories: 20}.snapshot(t), patient)
	words := []string{"repository=acme/r-9", "to=api-75.partner.example:443", "deployment=production"}
	if a, b := countSteps(t, few, words...), countSteps(t, set, words...); a != b {
		t.Errorf("%+v among few, and %+v among %d", a, b, n)
	}

	kept, err := policy.ParseContent(set.Snapshot().Content(), "")
	if err != nil {
		t.Fatal(err)
	}
	findings := set.Findings()
	resumed, err := Resume(t.Context(), kept, findings, patient)
	if err != nil {
		t.Fatal(err)
	}
	options := patient
	options.Previous = resumed
	again := mustLoadTree(t, all.snapshot(t), options)
	if again.Inspected() != 1 || again.Revision() != set.Revision() || !bytes.Equal(again.Findings(), findings) {
		t.Errorf("the next process checks %d, and has %v", again.Inspected(), again.Revision())
	}
	if a, b := described(set.Decide(t.Context(), requestFor(t, words...))), described(again.Decide(t.Context(), requestFor(t, words...))); a != b {
		t.Errorf("%s, and in the next process %s", a, b)
	}

	options.Previous, options.SpareProcessor = again, true
	changed := all
	changed.own = map[int]string{n - 1: "# changed\n"}
	if next := mustLoadTree(t, changed.snapshot(t), options); next.Inspected() != 2 {
		t.Errorf("one has changed, and %d were checked", next.Inspected())
	}
	bad := all
	bad.broken = n - 3
	_, err = Load(t.Context(), bad.snapshot(t), options)
	want := "repositories/acme/r-" + strconv.Itoa(n-3) + "/egress.rego"
	if errs, ok := errors.AsType[Errors](err); !ok || len(errs) != 1 || errs[0].File != want {
		t.Errorf("%.300v, want the one fault in %s", err, want)
	}
}
