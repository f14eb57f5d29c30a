package rego

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// cacheCase is two requests of which the second must not have the decision of the first.
type cacheCase struct {
	control       string // without which it has
	files         string
	first, second string
}

var cacheCases = []cacheCase{
	{control: cacheAddress, files: org(`allow contains {"rule": "x"} if input.target.port == 443`), first: "to=a.example:443", second: "to=192.0.2.1:443"},
	{control: cacheTime, files: org(`allow contains {"rule": "x", "expires": "2026-11-21T09:00:00Z"} if input.target.port == 443`), first: "time=2026-11-21T08:59:59.999999Z", second: "time=2026-11-21T09:00:00Z"},
	{control: cacheTime, files: org(`allow contains {"rule": "x", "expires": "2026-11-21T09:00:00Z"} if input.target.port == 443`), first: "time=2026-11-21T09:00:00Z", second: "time=2026-11-21T08:59:59.999999Z"},
	{control: cacheTime, files: org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.before(\"2026-11-21T09:00:00Z\")"), first: "time=2026-11-21T08:59:59.999999Z", second: "time=2026-11-21T09:00:00Z"},
	{control: cacheTime, files: org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.since(\"2026-11-21T09:00:00Z\")"), first: "time=2026-11-21T09:00:00Z", second: "time=2026-11-21T08:59:59.999999Z"},
	{control: cacheTime, files: org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.within([{\"from\": \"08:00\", \"to\": \"09:00\"}])"), first: "time=2026-11-21T08:59:59.999999Z", second: "time=2026-11-21T09:00:00Z"},
	{control: cacheTime, files: org(`allow contains {"rule": "x"} if time.now_ns() < time.parse_rfc3339_ns("2026-11-21T09:00:00Z")`), first: "time=2026-11-21T08:59:59.999999Z", second: "time=2026-11-21T09:00:00Z"},
	{control: cacheTime, files: strings.NewReplacer("repositories/acme/payments", "repositories/acme/x", `repository["acme/payments"]`, `repository["acme/x"]`).Replace(excepted), first: "to=a.example:443 time=2026-11-30T23:59:59Z", second: "to=a.example:443 time=2026-12-01T00:00:00Z"},
}

// TestDecisionCacheIsBounded: a request that differs in something else than the parts of
// the input that rules read has its own decision; without the control for that, it has the
// decision of the request before.
func TestDecisionCacheIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range cacheCases {
		request := func(words string) *policy.Request { return requestFor(t, strings.Fields(words)...) }
		second := request(c.second)
		for _, without := range []string{"", c.control} {
			set, err := loadWithout(t, without, c.files, Options{Names: true})
			if err != nil {
				t.Fatal(err)
			}
			cache := newDecisionCache(set, 1<<20, new(cacheCounts))
			before, err := cache.decide(t.Context(), request(c.first))
			if err != nil || before.Verdict == policy.Allow != (before.Reason == policy.PolicyAllowed) {
				t.Fatalf("%s: the first: %s, %v", c.control, described(before, err), err)
			}
			got, gotErr := cache.decide(t.Context(), second)
			want, wantErr := set.Decide(t.Context(), second)
			if same := described(got, gotErr) == described(want, wantErr) && sameDecision(got, want); same != (without == "") {
				t.Errorf("%s, without %q: the second is %s, evaluated %s", c.second, without, described(got, gotErr), described(want, wantErr))
			}
		}
	}
}

// liar is a worker that a repository's rules took over: its answers are what it likes.
type liar struct {
	serialized
	clock bool   // it reports a read of the clock
	rule  string // of its allow; empty: it evaluates
}

func (l *liar) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	reply, err := l.serialized.Do(ctx, call)
	if err != nil || len(call.Request) == 0 || call.Request[0] != requestEvaluate || len(reply) == 0 || reply[0] != replyOK {
		return reply, err
	}
	a, err := readEvaluationReply(reply[1:])
	if err != nil {
		return nil, err
	}
	if a.readClock = a.readClock && l.clock; l.rule != "" {
		a.results = results{setAllow: {{rule: l.rule}}}
	}
	return a.append([]byte{replyOK}), nil
}

// TestWorkerDoesNotDetermineTheCache: whatever a worker states about the clock, a
// repository's rules that may read it are evaluated each time; and a wrong answer is used
// for a minute at most.
func TestWorkerDoesNotDetermineTheCache(t *testing.T) {
	t.Parallel()
	clock := org(`delegate contains {"rule": "all"}`) + repo("import data.sallyport.lib\n\nallow contains {\"rule\": \"own\"} if lib.before(\"2026-11-21T08:40:30Z\")")
	plain := org(`delegate contains {"rule": "all"}`) + repo(`allow contains {"rule": "own"} if input.target.host == "b.example"`)
	for _, c := range []struct{ control, files, lie, first, second string }{
		{cacheClock, clock, "", "2026-11-21T08:40:00Z", "2026-11-21T08:40:31Z"},
		{cacheAge, plain, "wrong", "2026-11-21T08:40:00Z", "2026-11-21T08:41:00Z"},
	} {
		for _, without := range []string{"", c.control} {
			worker := &liar{serialized: oneByOne(), rule: c.lie}
			set, err := loadWithout(t, without, c.files, Options{Names: true, Workers: worker})
			if err != nil {
				t.Fatal(err)
			}
			cache := newDecisionCache(set, 1<<20, new(cacheCounts))
			if d, err := cache.decide(t.Context(), requestFor(t, "repository=acme/tools", "to=a.example:443", "time="+c.first)); err != nil || d.Verdict != policy.Allow {
				t.Fatalf("%s: the first: %s, %v", c.control, described(d, err), err)
			}
			worker.rule = ""
			d, err := cache.decide(t.Context(), requestFor(t, "repository=acme/tools", "to=a.example:443", "time="+c.second))
			if denied := err == nil && d.Verdict == policy.Deny; denied != (without == "") {
				t.Errorf("without %q: the second is %s", without, described(d, err))
			}
		}
	}
}

// TestErrorsAreNotCached: an evaluation that failed is repeated.
func TestErrorsAreNotCached(t *testing.T) {
	t.Parallel()
	for _, without := range []string{"", cacheErrors} {
		worker := &failing{serialized: oneByOne()}
		set, err := loadWithout(t, without, org(`delegate contains {"rule": "all"}`)+repo(`allow contains {"rule": "own"} if input.target.port == 443`), Options{Names: true, Workers: worker})
		if err != nil {
			t.Fatal(err)
		}
		cache := newDecisionCache(set, 1<<20, new(cacheCounts))
		request := requestFor(t, "repository=acme/tools", "to=a.example:443")
		worker.fails = true
		if d, err := cache.decide(t.Context(), request); err == nil || d.Verdict != policy.Deny || string(d.Input) == "" {
			t.Fatalf("the first: %s", described(d, err))
		}
		worker.fails = false
		d, err := cache.decide(t.Context(), request)
		if allowed := err == nil && d.Verdict == policy.Allow; allowed != (without == "") {
			t.Errorf("without %q: the second is %s, %v", without, described(d, err), err)
		}
	}
}

// failing is a worker that does not answer evaluations for a while.
type failing struct {
	serialized
	fails bool
}

func (f *failing) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	if f.fails && call.Request[0] == requestEvaluate {
		return nil, context.DeadlineExceeded
	}
	return f.serialized.Do(ctx, call)
}

// TestActivationEmptiesTheCache: a new set decides all that the set before had decided, and
// the decision has the new revision and activation. Each has its own input.
func TestActivationEmptiesTheCache(t *testing.T) {
	t.Parallel()
	e := &Engine{CacheBytes: 1 << 20}
	for i, rule := range []string{"one", "two"} {
		set := mustLoad(t, org(`allow contains {"rule": "`+rule+`"}`))
		e.Swap(set)
		for _, step := range []string{"2026-11-21T08:40:00Z", "2026-11-21T08:40:01Z"} {
			d, err := e.Decide(t.Context(), requestFor(t, "time="+step))
			if err != nil || d.Rule != rule || d.Revision != set.Revision() || d.Activation != uint64(i+1) || !strings.Contains(string(d.Input), step) {
				t.Errorf("%s: %s, %+v", rule, described(d, err), d)
			}
		}
	}
	s := e.CacheStatus()
	if s.Hits != 2 || s.Misses != 2 || s.Entries != 1 || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	e.Swap(nil)
	if _, err := e.Decide(t.Context(), requestFor(t)); err != ErrNoPolicy {
		t.Errorf("without a policy: %v", err)
	}
}

// TestUncacheableCauses: each cause is counted.
func TestUncacheableCauses(t *testing.T) {
	t.Parallel()
	for cause, files := range map[Uncacheable]string{
		UncacheableTime:       org(`allow contains {"rule": "x"} if input.time > "2020"`),
		UncacheableClock:      org(`allow contains {"rule": "x"} if time.now_ns() > 5`),
		UncacheableRepository: org(`delegate contains {"rule": "all"}`) + repo("import data.sallyport.lib\n\nallow contains {\"rule\": \"own\"} if lib.since(\"2020-01-01T00:00:00Z\")"),
		UncacheableError:      org(`allow contains {"rule": "x"} if to_number(input.target.host) > 1`),
		UncacheableSize:       org(longRules()),
	} {
		set := mustLoadWith(t, files, Options{Workers: oneByOne()})
		e := &Engine{CacheBytes: 1 << 20}
		e.Swap(set)
		for range 2 {
			_, _ = e.Decide(t.Context(), requestFor(t, "repository=acme/tools"))
		}
		if s := e.CacheStatus(); s.Uncacheable[cause] != 2 || s.Hits != 0 || s.Entries != 0 {
			t.Errorf("%s: %+v", cause, s)
		}
	}
}

// longRules are rules that all match, with ids of more than 32 KiB together.
func longRules() string {
	var b strings.Builder
	for i := range 800 {
		fmt.Fprintf(&b, "allow contains {\"rule\": \"a-rule-with-a-long-name-for-the-test-of-sizes-%d\"}\n\n", i)
	}
	return b.String()
}
