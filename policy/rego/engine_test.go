package rego

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestEngineWithoutPolicyDenies(t *testing.T) {
	var e Engine
	d, err := e.Decide(t.Context(), requestFor(t))
	if !errors.Is(err, ErrNoPolicy) || d.Verdict != policy.Deny || d.Reason != policy.PolicyError {
		t.Errorf("got %s, %v", described(d, err), err)
	}
}

// TestEmptyPolicyDenies: a missing package is an empty set.
func TestEmptyPolicyDenies(t *testing.T) {
	for name, files := range map[string]string{
		"no rules":               "-- egress/a.rego --\npackage sallyport.egress\n",
		"data only":              "-- data/x.yaml --\na: 1\n",
		"only delegates":         org("delegate contains {\"rule\": \"d\"}"),
		"another repository's":   repo("allow contains {\"rule\": \"x\"}"),
		"nothing but the ground": "",
	} {
		set := mustLoad(t, files)
		if got := described(set.Decide(t.Context(), requestFor(t))); got != "deny no_rule_matched" {
			t.Errorf("%s: %s", name, got)
		}
	}
	// A repository's allow without any organization's policy is not delegated to.
	set := mustLoad(t, repo("allow contains {\"rule\": \"x\"}"))
	if got := described(set.Decide(t.Context(), requestFor(t, "repository=acme/tools"))); got != "deny no_rule_matched" {
		t.Error(got)
	}
	// A report without any allow or deny reports everything.
	set = mustLoad(t, org("report contains {\"rule\": \"all\"}"))
	if got := described(set.Decide(t.Context(), requestFor(t))); got != "allow no_rule_matched rule=all report would_deny" {
		t.Error(got)
	}
}

// TestSwapUnderLoad: while two policies with opposite rules replace each other, each
// decision is entirely of the revision that it names.
func TestSwapUnderLoad(t *testing.T) {
	const repositories = 8
	policyNumber := func(n int) *Set {
		var files strings.Builder
		fmt.Fprintf(&files, "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"org-%d\", \"message\": data.word} if input.target.port == 443\n\ndelegate contains {\"rule\": \"delegate-%d\"}\n-- data/x.yaml --\nword: w%d\n", n, n, n)
		for r := range repositories {
			fmt.Fprintf(&files, "-- repositories/acme/r%d/a.rego --\npackage sallyport.repository[\"acme/r%d\"]\n\nallow contains {\"rule\": \"own-%d\"} if input.target.host == \"api.partner.example\"\n", r, r, n)
		}
		return mustLoad(t, files.String())
	}
	sets := []*Set{policyNumber(1), policyNumber(2)}
	want := map[string]string{}
	for i, s := range sets {
		n := i + 1
		want[s.Revision().Digest] = fmt.Sprintf("allow policy_allowed rule=org-%d rules=org-%d,own-%d,delegate-%d message=\"w%d\"", n, n, n, n, n)
	}
	if len(want) != 2 {
		t.Fatal("the revisions are the same")
	}
	var e Engine
	e.Swap(sets[0])
	var stop atomic.Bool
	var decided [2]atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				d, err := e.Decide(t.Context(), requestFor(t, fmt.Sprintf("repository=acme/r%d", (worker+i)%repositories)))
				if got := described(d, err); got != want[d.Revision.Digest] {
					t.Errorf("revision %s: %s\nwant %s (%v)", d.Revision.Digest, got, want[d.Revision.Digest], err)
					return
				}
				for i, s := range sets {
					if d.Revision == s.Revision() {
						decided[i].Add(1)
					}
				}
			}
		})
	}
	for i := range 200 {
		next := sets[(i+1)%2]
		if previous := e.Swap(next); previous != sets[i%2] {
			t.Error("the previous set is not the one that was there")
		}
		// Each revision decides at least once before it is swapped out again.
		before := decided[(i+1)%2].Load()
		for decided[(i+1)%2].Load() == before && !t.Failed() {
			if _, err := e.Decide(t.Context(), requestFor(t)); err != nil {
				t.Error(err)
			}
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestPrepareCompilesRecentRepositories: policies that were used lately are compiled in
// the new set before it becomes active.
func TestPrepareCompilesRecentRepositories(t *testing.T) {
	files := org("allow contains {\"rule\": \"x\"}") + repo("deny contains {\"rule\": \"y\"} if input.target.port == 1")
	first, second := mustLoad(t, files), mustLoad(t, files)
	var e Engine
	e.Swap(first)
	if _, err := e.Decide(t.Context(), requestFor(t, "repository=acme/tools")); err != nil {
		t.Fatal(err)
	}
	if err := e.Prepare(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	e.Swap(second)
	if got := second.recent(); len(got) != 1 || got[0] != "acme/tools" {
		t.Errorf("compiled: %v", got)
	}
	if e.Current() != second {
		t.Error("the second set is not current")
	}
}

func TestLRUForgetsTheOldest(t *testing.T) {
	c := newLRU[string, int](2)
	made := 0
	get := func(key string) int { return c.get(key, func() int { made++; return made }) }
	get("a")
	get("b")
	get("a")
	get("c") // b goes
	if got := strings.Join(c.keys(), " "); got != "c a" {
		t.Errorf("keys %s", got)
	}
	if get("a") != 1 || get("b") != 4 {
		t.Error("a was forgotten, or b was kept")
	}
}
