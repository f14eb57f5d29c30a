package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// refused is a crowd to which policy allows nothing.
func refused(t *testing.T) (crowd, *Gate) {
	c, g := newCrowd(t, Limits{})
	c.decision = policy.Decision{Reason: policy.NoRuleMatched, Message: "ask for a rule"}
	return c, g
}

// askFor is one CONNECT of the step 1 of the repository 1.
func askFor(t *testing.T, g *Gate, target string) *Refusal {
	t.Helper()
	a, refusal := g.Admit(t.Context(), Attempt{Action: policy.Connect, Target: target,
		Client: netip.MustParseAddrPort("10.0.0.1:1"), Credential: identity.NewCredential("1.1")})
	if a != nil {
		a.Close(Outcome{})
		return nil
	}
	return refusal
}

func count(t *testing.T, e *audit.Event) (n int, from string) {
	t.Helper()
	for _, a := range e.Attributes {
		switch a.Name {
		case "count":
			n, _ = strconv.Atoi(a.Value)
		case "from":
			from = a.Value
		}
	}
	if e.Kind != audit.KindRefusalsRepeated || n == 0 {
		t.Errorf("%+v is not a count", e)
	}
	return n, from
}

// TestRepeatsAreCounted: a refusal that is repeated is recorded a few times. The
// others get the decision id of the first one, which is in the log, and the same
// words, and are counted in an event by that id. Another target, step or rule has
// its own.
func TestRepeatsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, g := refused(t)
		first := askFor(t, g, "a.example:443")
		for range 99 {
			r := askFor(t, g, "a.example:443")
			if !r.Recorded || r.DecisionID == "" || r.Message != "ask for a rule" || r.Status != first.Status {
				t.Fatalf("%+v", r)
			}
		}
		if got := askFor(t, g, "a.example:443"); got.DecisionID != first.DecisionID {
			t.Errorf("a repeat has the id %s, the first refusal %s", got.DecisionID, first.DecisionID)
		}
		if n := len(c.events()); n != repeatBurst || c.events()[0].DecisionID != first.DecisionID || g.Repeated() != 101-repeatBurst || len(c.decided) != 101 {
			t.Errorf("%d events, %d repeats, %d refusals were observed", n, g.Repeated(), len(c.decided))
		}
		if other := askFor(t, g, "b.example:443"); other.DecisionID == first.DecisionID {
			t.Error("another target has the same id")
		}
		c.decision.Rule = "another"
		if other := askFor(t, g, "a.example:443"); other.DecisionID == first.DecisionID {
			t.Error("another rule has the same id")
		}
		c.decision.Rule = ""
		// A count that could not be recorded is part of the next one.
		c.recordErr = errors.New("unavailable")
		g.RecordRepeats(t.Context())
		c.recordErr = nil
		askFor(t, g, "a.example:443")
		before := len(c.events())
		g.RecordRepeats(t.Context())
		counted := c.events()[before:]
		if len(counted) != 1 {
			t.Fatalf("%d events", len(counted))
		}
		if n, _ := count(t, &counted[0]); n != 102-repeatBurst || counted[0].DecisionID != first.DecisionID || counted[0].Host != "a.example" ||
			counted[0].RepositoryUUID != "repository-1" || counted[0].StepUUID != "step-1-1" || counted[0].Reason != "no_rule_matched" {
			t.Errorf("%+v", counted[0])
		}
		g.RecordRepeats(t.Context()) // nothing is left
		if n := len(c.events()); n != before+1 {
			t.Errorf("%d more events", n-before-1)
		}
		time.Sleep(repeatMaxAge + repeatSweep)
		if again := askFor(t, g, "c.example:443"); again.DecisionID == first.DecisionID || len(g.repeats.steps) != 1 || g.repeats.known != 1 {
			t.Errorf("%d refusals are still known", g.repeats.known)
		}
	})
}

// TestManyTargetsAreSlowedDown: a step that is refused for a new target each time, more
// often than is recorded, is refused with step_limit, later, and under one id.
func TestManyTargetsAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, g := refused(t)
		ids := map[string]int{}
		for n := range 2 * refusalBurst {
			r := askFor(t, g, fmt.Sprintf("h%d.example:443", n))
			if over := n >= refusalBurst; over != (r.Reason == policy.StepLimit) || over != r.Throttled || !r.Recorded {
				t.Fatalf("refusal %d: %+v", n, r)
			}
			ids[r.DecisionID]++
		}
		if n := len(c.events()); n != refusalBurst+repeatBurst || len(ids) != n {
			t.Errorf("%d events, %d ids", n, len(ids))
		}
	})
}

// TestOnlyRecordedRefusalsAreRepeated: what is allowed is always recorded; a refusal
// whose event could not be recorded is not answered with its id; and a client without an
// accepted credential has no repeats.
func TestOnlyRecordedRefusalsAreRepeated(t *testing.T) {
	c, g := newCrowd(t, Limits{})
	for range 50 {
		if r := askFor(t, g, "a.example:443"); r != nil {
			t.Fatalf("%+v", r)
		}
	}
	if n := len(c.events()); n != 100 { // decisions and ends
		t.Errorf("%d events of 50 tunnels", n)
	}
	c, g = refused(t)
	c.recordErr = errors.New("unavailable")
	ids := map[string]bool{}
	for range 50 {
		r := askFor(t, g, "a.example:443")
		if r.Recorded {
			t.Fatalf("%+v", r)
		}
		ids[r.DecisionID] = true
	}
	if len(ids) != 50 || g.Repeated() != 0 {
		t.Errorf("%d ids, %d repeats", len(ids), g.Repeated())
	}
}

// forgetRefusals removes all memory of earlier refusals. It holds the lock, because
// [Gate.RunRepeats] executes meanwhile.
func forgetRefusals(r *repeats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps, r.known, r.swept, r.total = nil, 0, time.Time{}, 0
}

// over is what one step can put into the log in so many minutes with 200 refused
// requests a second: events, and the bytes of their records.
func over(t *testing.T, minutes int, target func(n int) string, forget bool) (events, bytes int) {
	synctest.Test(t, func(t *testing.T) {
		c, g := refused(t)
		go g.RunRepeats(t.Context())
		for n := range minutes * 60 * 200 {
			if forget {
				forgetRefusals(&g.repeats)
			}
			if r := askFor(t, g, target(n)); r == nil {
				t.Fatal("allowed")
			}
			time.Sleep(5 * time.Millisecond)
		}
		synctest.Wait()
		g.RecordRepeats(t.Context())
		all := c.events()
		repeated := 0
		for i := range all {
			e := &all[i]
			if e.Kind == audit.KindRefusalsRepeated {
				n, _ := count(t, e)
				repeated += n
			}
			e.Normalise()
			bytes += len(e.AppendRecord(nil))
		}
		if events = len(all); !forget && int64(repeated) != g.Repeated() {
			t.Errorf("%d repeats are recorded of %d", repeated, g.Repeated())
		}
	})
	return events, bytes
}

// TestStepRefusalsAreLimited: what one step can make the log hold is bounded in
// events and in bytes over time, and every refusal is in it, or counted under the id
// of one that is.
func TestStepRefusalsAreLimited(t *testing.T) {
	long := "/" + strings.Repeat("x", 3000)
	for name, test := range map[string]struct {
		target      func(n int) string
		mostEvents  int
		mostPerByte int
	}{
		"one target":   {func(int) string { return "a.example:443" }, repeatBurst + 600/12 + 11, 2000},
		"many targets": {func(n int) string { return fmt.Sprintf("h%d.example:443", n) }, refusalBurst + 20*600 + 100, 2000},
		"not a target": {func(n int) string { return fmt.Sprint(n) + long }, refusalBurst + 20*600 + 100, 6000},
	} {
		t.Run(name, func(t *testing.T) {
			events, bytes := over(t, 10, test.target, false)
			if events > test.mostEvents || bytes > events*test.mostPerByte {
				t.Errorf("in ten minutes one step made %d events of %d bytes", events, bytes)
			}
			t.Logf("%d events, %d bytes", events, bytes)
		})
	}
}

// TestRepeatsAreNeeded: without memory of earlier refusals one step makes 12,000
// events in a minute.
func TestRepeatsAreNeeded(t *testing.T) {
	if events, _ := over(t, 1, func(int) string { return "a.example:443" }, true); events != 12_000 {
		t.Errorf("%d events: the test cannot fail", events)
	}
}

// TestRepeatsAreBounded: what is known of refusals has a bound, for each step and for
// all, and is forgotten.
func TestRepeatsAreBounded(t *testing.T) {
	var r repeats
	now := time.Now()
	for step := range maxRepeats + 1000 {
		keys := 1
		if step < 200 {
			keys = 200
		}
		for key := range keys {
			entry, _, _ := r.take(stepKey{Repository: fmt.Sprint(step % 5), Step: fmt.Sprint(step)}, repeatKey{target: fmt.Sprint(key)}, now)
			r.durable(entry, audit.Event{DecisionID: "x"})
		}
	}
	keys := 0
	for _, s := range r.steps {
		if keys += len(s.keys); len(s.keys) > maxRepeatKeys {
			t.Fatalf("%d refusals of one step are known", len(s.keys))
		}
	}
	if len(r.steps) > maxRepeats || keys > maxRepeats || keys != r.known || keys < maxRepeats/2 {
		t.Errorf("%d steps, %d refusals, %d are counted", len(r.steps), keys, r.known)
	}
	r.take(stepKey{Step: "later"}, repeatKey{}, now.Add(repeatMaxAge+time.Second))
	if len(r.steps) != 1 || r.known != 1 || len(r.repositories) != 1 {
		t.Errorf("%d steps and %d refusals are left", len(r.steps), r.known)
	}
}

// TestRepositoryRefusalsAreLimited: many steps of one repository, each refused for a
// new target each time below its own rate, are limited together, and another
// repository's step is not.
func TestRepositoryRefusalsAreLimited(t *testing.T) {
	var r repeats
	now := time.Now()
	recorded := map[policy.Reason]int{}
	for n := range 40 * refusalBurst {
		_, _, over := r.take(stepKey{Repository: "1", Step: fmt.Sprint(n % 100)}, repeatKey{target: fmt.Sprint(n)}, now)
		recorded[over]++
	}
	if recorded[""] != repositoryRefusals*refusalBurst || recorded[policy.StepLimit] != 0 {
		t.Errorf("%v", recorded)
	}
	if _, _, over := r.take(stepKey{Repository: "2", Step: "1"}, repeatKey{target: "x"}, now); over != "" {
		t.Errorf("another repository: %s", over)
	}
	// Its keys leave room for those of others.
	if of := r.repositories[stepKey{Repository: "1"}.repository()]; of.known > maxRepositoryRepeats {
		t.Errorf("%d refusals of one repository are known", of.known)
	}
}

// TestRepositoryRefusalLimitIsNeeded: with a repository of its own each step has its
// own rate alone.
func TestRepositoryRefusalLimitIsNeeded(t *testing.T) {
	var r repeats
	now := time.Now()
	for n := range 40 * refusalBurst {
		step := fmt.Sprint(n % 100)
		if _, _, over := r.take(stepKey{Repository: step, Step: step}, repeatKey{target: fmt.Sprint(n)}, now); over != "" {
			t.Fatalf("refusal %d: %s", n, over)
		}
	}
}
