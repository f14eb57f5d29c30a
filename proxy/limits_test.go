package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// crowd is a world in which the token says which step of which repository it is.
type crowd struct{ *world }

func (c crowd) Authenticate(_ context.Context, credential identity.Credential) (*identity.Principal, error) {
	var repository, step int
	if _, err := fmt.Sscanf(credential.Reveal(), "%d.%d", &repository, &step); err != nil {
		return nil, &identity.Error{Problem: identity.CredentialMalformed, Detail: "not a step"}
	}
	p := *c.principal
	p.Repository.UUID, p.Step.UUID = fmt.Sprint("repository-", repository), fmt.Sprintf("step-%d-%d", repository, step)
	return &p, nil
}

func newCrowd(t testing.TB, l Limits) (crowd, *Gate) {
	c := crowd{newWorld()}
	c.addrs = []netip.Addr{netip.MustParseAddr("203.0.114.7")}
	c.world.config = func(config *Config) { config.Authenticator, config.Limits = c, l }
	return c, c.gate(t)
}

// ask is one CONNECT of a step.
func ask(t testing.TB, g *Gate, repository, step int) (*Admission, policy.Reason) {
	t.Helper()
	a, refusal := g.Admit(t.Context(), Attempt{Action: policy.Connect, Target: "api.partner.example:443",
		Client: netip.MustParseAddrPort("10.0.0.1:1"), Credential: identity.NewCredential(fmt.Sprintf("%d.%d", repository, step))})
	if refusal != nil {
		return nil, refusal.Reason
	}
	return a, ""
}

// TestTunnelLimits: each limit has its reason, and a place is free again when
// its admission ends.
func TestTunnelLimits(t *testing.T) {
	c, g := newCrowd(t, Limits{Step: Limit{Tunnels: 2}, Repository: Limit{Tunnels: 3}, Total: Limit{Tunnels: 4}})
	var open []*Admission
	expect := func(repository, step int, want policy.Reason) {
		t.Helper()
		a, reason := ask(t, g, repository, step)
		if reason != want {
			t.Fatalf("step %d of %d: %q, want %q", step, repository, reason, want)
		}
		if a != nil {
			open = append(open, a)
		}
	}
	expect(1, 1, "")
	expect(1, 1, "")
	expect(1, 1, policy.StepLimit)
	expect(1, 2, "")
	expect(1, 2, policy.RepositoryLimit)
	expect(1, 3, policy.RepositoryLimit)
	expect(2, 1, "")
	expect(3, 1, policy.InstanceLimit)
	open[0].Close(Outcome{Cause: CauseFinished})
	open[0].Close(Outcome{Cause: CauseFinished}) // frees no second place
	expect(3, 1, "")
	expect(1, 1, policy.InstanceLimit)
	for _, a := range open[1:] {
		a.Close(Outcome{Cause: CauseFinished})
	}
	if g.limits.total.open != 0 {
		t.Errorf("%d places are taken", g.limits.total.open)
	}
	// What is over a limit is neither put to policy nor looked up, and is on record.
	if len(c.asked) != 5 || len(c.resolved) != 5 {
		t.Errorf("asked %d times, resolved %d times", len(c.asked), len(c.resolved))
	}
	reasons := map[string]int{}
	for _, e := range c.events() {
		reasons[e.Reason]++
		if e.Reason == "step_limit" && (e.StepUUID != "step-1-1" || e.Status != 429 || e.Verdict != "deny") {
			t.Errorf("the event is %+v", e)
		}
	}
	if reasons["step_limit"] != 1 || reasons["repository_limit"] != 2 || reasons["instance_limit"] != 2 {
		t.Errorf("on record: %v", reasons)
	}
}

// TestRateLimits: so many a second, as many at once; what is refused for one
// limit costs nothing of the others.
func TestRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g := newCrowd(t, Limits{Step: Limit{RequestsPerSecond: 4}, Repository: Limit{RequestsPerSecond: 6}, Total: Limit{RequestsPerSecond: 8}})
		count := func(repository, step, times int) (passed int, last policy.Reason) {
			for range times {
				a, reason := ask(t, g, repository, step)
				if a != nil {
					passed++
					a.Close(Outcome{Cause: CauseFinished})
				} else {
					last = reason
				}
			}
			return passed, last
		}
		for _, row := range []struct {
			repository, step, times, passed int
			reason                          policy.Reason
			after                           time.Duration
		}{
			{1, 1, 100, 4, policy.StepLimit, 0},
			{1, 2, 100, 2, policy.RepositoryLimit, 0},
			{2, 1, 100, 2, policy.InstanceLimit, 0},
			{1, 1, 100, 2, policy.StepLimit, 500 * time.Millisecond},
			{3, 1, 100, 2, policy.InstanceLimit, 0},
			{3, 1, 4, 4, "", time.Minute},
		} {
			time.Sleep(row.after)
			if passed, reason := count(row.repository, row.step, row.times); passed != row.passed || reason != row.reason {
				t.Errorf("%+v: %d passed, %q", row, passed, reason)
			}
		}
	})
}

// TestStepFloodBites is the attack: one step asks without end. With a limit of
// its own another repository's step gets out and the log gets a few events; with
// no limit but the one of all steps together, it takes everything.
func TestStepFloodBites(t *testing.T) {
	for _, limited := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := Limits{Total: Limit{Tunnels: 50}}
			if limited {
				l.Step = Limit{Tunnels: 10}
			}
			c, g := newCrowd(t, l)
			for range 1000 {
				_, _ = ask(t, g, 1, 1)
			}
			_, reason := ask(t, g, 2, 1)
			if starved := reason == policy.InstanceLimit; starved == limited {
				t.Errorf("limited %v: the other step is told %q", limited, reason)
			}
			if n := len(c.events()); limited && n > 10+g.refused.perSecond+1 {
				t.Errorf("the flood left %d events", n)
			}
			if limited && len(c.unrecorded) != 1000-10-g.refused.perSecond {
				t.Errorf("%d refusals were counted", len(c.unrecorded))
			}
		})
	}
}

// A place is given back whatever becomes of the attempt.
func TestPlacesAreGivenBack(t *testing.T) {
	c, g := newCrowd(t, Limits{Step: Limit{Tunnels: 1}})
	for name, change := range map[string]func(){
		"denied":       func() { c.decision.Verdict = policy.Deny },
		"not resolved": func() { c.addrs = nil },
		"not recorded": func() { c.recordErr = context.DeadlineExceeded },
		"not readable": func() {},
	} {
		decision, addrs := c.decision, c.addrs
		change()
		target := "api.partner.example:443"
		if name == "not readable" {
			target = "api.partner.example"
		}
		for range 3 {
			_, refusal := g.Admit(t.Context(), Attempt{Action: policy.Connect, Target: target, Credential: identity.NewCredential("1.1")})
			if refusal == nil || refusal.Reason == policy.StepLimit {
				t.Errorf("%s: %+v", name, refusal)
			}
		}
		c.decision, c.addrs, c.recordErr = decision, addrs, nil
		if g.limits.total.open != 0 {
			t.Errorf("%s: %d places are taken", name, g.limits.total.open)
		}
	}
	func() {
		defer func() { _ = recover() }()
		g.config.Decider = nil // panics
		_, _ = ask(t, g, 1, 1)
	}()
	if g.limits.total.open != 0 {
		t.Error("a panic took a place for ever")
	}
}

func TestLimiterForgets(t *testing.T) {
	now := time.Now()
	l := newLimiter(Limits{Step: Limit{Tunnels: 1, RequestsPerSecond: 5}})
	for i := range 1000 {
		got, over := l.take(&identity.Principal{Step: identity.Run{UUID: fmt.Sprint(i)}}, now, 5)
		if over != nil {
			t.Fatal(over)
		}
		if i > 0 {
			got.release()
		}
	}
	l.take(&identity.Principal{Step: identity.Run{UUID: "new"}}, now.Add(limiterForgets), 5)
	// The new one, and the first, which is still open.
	if len(l.steps) != 2 {
		t.Errorf("%d steps are remembered", len(l.steps))
	}
}

// TestLimiterConcurrently: under any interleaving no more are open than may be.
func TestLimiterConcurrently(t *testing.T) {
	l := newLimiter(Limits{Step: Limit{Tunnels: 3}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	open, most := 0, 0
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				held, over := l.take(&identity.Principal{}, time.Now(), 5)
				if over != nil {
					continue
				}
				mu.Lock()
				open++
				most = max(most, open)
				mu.Unlock()
				mu.Lock()
				open--
				mu.Unlock()
				held.release()
			}
		})
	}
	wg.Wait()
	if most > 3 || l.total.open != 0 {
		t.Errorf("%d were open at once, %d are left", most, l.total.open)
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimiter(Limits{Step: Limit{500, 1 << 30}, Repository: Limit{5000, 1 << 30}, Total: Limit{10_000, 1 << 30}})
	p := &identity.Principal{Issuer: "https://issuer.example", Step: identity.Run{UUID: "s"}, Repository: identity.Repository{UUID: "r"}}
	b.ReportAllocs()
	for b.Loop() {
		held, _ := l.take(p, time.Now(), 5)
		held.release()
	}
}
