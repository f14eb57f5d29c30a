package rego

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/paths"
)

// lenient are the checks that random policies do not pass.
var lenient = strings.Join([]string{checkAbsent, checkSchema, checkUnread, checkUndefined, checkConditions, checkSingleNames, checkOperands, checkExceptions}, ", ")

// oneByOne executes the calls of workers in this process. A host is for one goroutine, and
// a set is loaded by several.
func oneByOne() serialized { return serialized{new(sync.Mutex), inProcess{newHost()}} }

// randomSet loads a random policy, whose repositories' rules are evaluated in this process.
// It returns nil if the policy does not load.
func randomSet(t *testing.T, g *randomPolicy) (set *Set, files string) {
	t.Helper()
	files = g.files()
	set, err := loadWithout(t, lenient, files, Options{Names: true, Deadline: 5 * time.Second, OnFailure: DenyRepository, Workers: oneByOne()})
	if _, refused := errors.AsType[Errors](err); err != nil && !refused {
		t.Fatalf("%v\n%s", err, files)
	}
	return set, files
}

// sameDecision reports whether two decisions are the same, but for what varies between two
// evaluations.
func sameDecision(a, b policy.Decision) bool {
	a.Duration, b.Duration, a.Activation, b.Activation = 0, 0, 0, 0
	return reflect.DeepEqual(a, b)
}

// compareCached decides requests by an engine with a cache, and evaluates each as well. It
// returns the first difference, and the number of hits.
func compareCached(t *testing.T, set *Set, cache *decisionCache, requests []*policy.Request) (difference string, hits int64) {
	t.Helper()
	for _, r := range requests {
		before := cache.counts.Hits.Load()
		got, gotErr := cache.decide(t.Context(), r)
		want, wantErr := set.Decide(t.Context(), r)
		if (gotErr == nil) != (wantErr == nil) || !sameDecision(got, want) {
			return "hit: " + strconv.FormatBool(cache.counts.Hits.Load() > before) + "\n" + string(want.Input) + "\ncached    " + described(got, gotErr) + "\nevaluated " + described(want, wantErr), 0
		}
	}
	return "", cache.counts.Hits.Load()
}

// compareKeys evaluates requests at one time each, and compares those with the same key.
func compareKeys(t *testing.T, set *Set, cache *decisionCache, requests []*policy.Request) (difference string) {
	t.Helper()
	type made struct {
		decision policy.Decision
		failed   bool
	}
	known := map[string]made{}
	for _, r := range requests {
		one := *r
		one.Time = time.Date(2026, 11, 21, 8, 59, 59, 0, time.UTC)
		part, err := set.partOf(&one)
		if err != nil {
			t.Fatal(err)
		}
		in := newEvalInput(&one, part, cache.keyParts(part.repository).parts)
		key := part.repository + " " + string(cache.keyOf(in))
		d, err := set.Decide(t.Context(), &one)
		input := string(d.Input)
		d.Input = nil
		before, ok := known[key]
		if ok && (before.failed != (err != nil) || !sameDecision(before.decision, d)) {
			return key + "\n" + input + "\nis " + described(d, err) + "\nand was " + described(before.decision, nil)
		}
		known[key] = made{d, err != nil}
	}
	return ""
}

func requestsOf(g *randomPolicy, n int) []*policy.Request {
	list := make([]*policy.Request, n)
	for i := range list {
		list[i] = g.request()
	}
	return list
}

// TestDecisionsAreThePolicys decides every request both ways, with the cache and without,
// under random policies. SALLYPORT_POLICIES is their number; `make soak` sets thousands.
func TestDecisionsAreThePolicys(t *testing.T) {
	t.Parallel()
	policies := 60
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_POLICIES")); err == nil {
		policies = n
	}
	var loaded int
	var hits, decisions int64
	verdicts := map[string]int{}
	for seed := range uint64(policies) {
		g := newRandomPolicy(seed)
		set, files := randomSet(t, g)
		if set == nil {
			continue
		}
		loaded++
		cache := newDecisionCache(set, 1<<20, new(cacheCounts))
		requests := requestsOf(g, 250)
		if difference := compareKeys(t, set, cache, requests[:100]); difference != "" {
			t.Fatalf("seed %d: %s\n%s", seed, difference, files)
		}
		difference, found := compareCached(t, set, cache, requests)
		if difference != "" {
			t.Fatalf("seed %d: %s\n%s", seed, difference, files)
		}
		hits, decisions = hits+found, decisions+int64(len(requests))
		for _, r := range requests[:20] {
			d, _ := cache.decide(t.Context(), r)
			verdicts[d.Verdict.String()+" "+string(d.Reason)]++
		}
	}
	t.Logf("%d of %d policies, %d decisions, %d of them cached, %v", loaded, policies, decisions, hits, verdicts)
	if loaded < policies/3 || hits < decisions/5 || len(verdicts) < 4 {
		t.Errorf("%d of %d policies, %d hits for %d decisions, %v: too few to show anything", loaded, policies, hits, decisions, verdicts)
	}
}

// FuzzDecisionCache is [TestDecisionsAreThePolicys] for the seeds of a fuzzer.
func FuzzDecisionCache(f *testing.F) {
	f.Add(uint64(1_000_001))
	f.Add(uint64(1_000_002))
	f.Fuzz(func(t *testing.T, seed uint64) {
		g := newRandomPolicy(seed)
		set, files := randomSet(t, g)
		if set == nil {
			return
		}
		cache := newDecisionCache(set, 1<<20, new(cacheCounts))
		requests := requestsOf(g, 80)
		if difference := compareKeys(t, set, cache, requests); difference != "" {
			t.Fatalf("%s\n%s", difference, files)
		}
		if difference, _ := compareCached(t, set, cache, requests); difference != "" {
			t.Fatalf("%s\n%s", difference, files)
		}
	})
}

// withoutPath makes a cache whose keys lack one path.
func withoutPath(set *Set, path string) *decisionCache {
	cache := newDecisionCache(set, 1<<20, new(cacheCounts))
	for _, repository := range []string{"acme/tools", "acme/payments", "acme/other"} {
		k := cache.keyParts(repository)
		parts := new(paths.Tree)
		for _, p := range k.parts.Paths() {
			if p != path {
				parts.Add(strings.Split(p, ".")...)
			}
		}
		k.parts, k.timed = parts, parts.Has("time")
	}
	return cache
}

// TestDecisionCacheKeyIsNeeded: if keys lack one path that rules read, the comparison of
// cached and evaluated decisions detects it: for each path of a policy, and for paths of
// random policies.
func TestDecisionCacheKeyIsNeeded(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, org(`delegate contains {"rule": "all"} if input.principal.branch == "main"

allow contains {"rule": "tools"} if {
	input.target.host == "a.example"
	input.client.address == "192.0.2.7"
}`)+repo(`allow contains {"rule": "own"} if {
	input.target.port == 443
	not input.request
}

deny contains {"rule": "step", "message": input.principal.step.uuid} if input.target.host == "x.b.example"`))
	requests := requestsOf(newRandomPolicy(1), 1500)
	if difference, hits := compareCached(t, set, newDecisionCache(set, 1<<20, new(cacheCounts)), requests); difference != "" || hits < 100 {
		t.Fatalf("%d hits, %s", hits, difference)
	}
	for _, path := range []string{"principal.branch", "principal.step.uuid", "target.host", "target.port", "client.address", "request"} {
		if all := newDecisionCache(set, 1<<20, new(cacheCounts)).keyParts("acme/tools").parts.Paths(); !slices.Contains(all, path) {
			t.Fatalf("%s is not in %q", path, all)
		}
		if difference, _ := compareCached(t, set, withoutPath(set, path), requests); difference == "" {
			t.Errorf("keys without %s are not detected", path)
		}
	}
	dropped, detected := 0, 0
	for seed := range uint64(12) {
		g := newRandomPolicy(seed)
		set, _ := randomSet(t, g)
		if set == nil {
			continue
		}
		requests := requestsOf(g, 300)
		for _, path := range newDecisionCache(set, 1<<20, new(cacheCounts)).keyParts("acme/tools").parts.Paths() {
			dropped++
			if compareKeys(t, set, withoutPath(set, path), requests) != "" {
				detected++
			}
		}
	}
	t.Logf("%d of %d dropped paths change a decision", detected, dropped)
	if detected < dropped/10 {
		t.Errorf("%d of %d dropped paths are detected", detected, dropped)
	}
}
