package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// crowd is an env in which the token names the step and its repository.
type crowd struct {
	*env
	problem identity.Problem // with every credential
}

func (c crowd) Authenticate(_ context.Context, credential identity.Credential) (*identity.Principal, error) {
	var repository, step int
	if _, err := fmt.Sscanf(credential.Reveal(), "%d.%d", &repository, &step); err != nil {
		return nil, &identity.Error{Problem: identity.CredentialMalformed, Detail: "not a step"}
	}
	p := *c.principal
	p.Repository.UUID, p.Step.UUID = fmt.Sprint("repository-", repository), fmt.Sprintf("step-%d-%d", repository, step)
	if c.problem != "" {
		return nil, &identity.Error{Problem: c.problem, Principal: &p}
	}
	return &p, nil
}

func newCrowd(t testing.TB, l Limits) (crowd, *Gate) {
	c := crowd{env: newEnv()}
	c.addrs = []netip.Addr{netip.MustParseAddr("203.0.114.7")}
	c.env.config = func(config *Config) { config.Authenticator, config.Limits = c, l }
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
	if g.requests.Held() != 0 {
		t.Errorf("%d places are taken", g.requests.Held())
	}
	// A request over a limit is not evaluated and its name is not looked up, but it is
	// recorded.
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

// TestStepLimitIsNeeded is the attack: one step asks without end. With a limit of
// its own another repository's step gets out and the log gets a few events; with
// no limit but the one of all steps together, it takes everything.
func TestStepLimitIsNeeded(t *testing.T) {
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
			if n := len(c.events()); limited && n > 10+g.refusals.steps.perSecond+1 {
				t.Errorf("the flood left %d events", n)
			}
			if counted := int64(len(c.unrecorded)) + g.Repeated(); limited && counted != int64(1000-10-min(g.refusals.steps.perSecond, repeatBurst)) {
				t.Errorf("%d refusals were counted", counted)
			}
		})
	}
}

// A place is given back whatever becomes of the attempt.
func TestSlotsAreReleased(t *testing.T) {
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
		if g.requests.Held() != 0 {
			t.Errorf("%s: %d places are taken", name, g.requests.Held())
		}
	}
	func() {
		defer func() { _ = recover() }()
		g.config.Decider = nil // panics
		_, _ = ask(t, g, 1, 1)
	}()
	if g.requests.Held() != 0 {
		t.Error("a panic took a place for ever")
	}
}

// TestRateQueues: a step that sends four times its rate at once, as curl does with
// a list of addresses, is slowed down to its rate and refused nothing.
func TestRateQueues(t *testing.T) {
	if refused := requestsAtOnce(t, 5*time.Second); refused != 0 {
		t.Errorf("%d of 800 were refused", refused)
	}
}

func TestRateQueueIsNeeded(t *testing.T) {
	if refused := requestsAtOnce(t, 0); refused != 600 {
		t.Errorf("%d of 800 were refused", refused)
	}
}

func requestsAtOnce(t *testing.T, timeout time.Duration) (refused int) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Step: Limit{RequestsPerSecond: 200, QueuedRequests: 800}, Repository: Limit{QueuedRequests: 800}, Total: Limit{QueuedRequests: 4000}, QueueTimeout: timeout}
		_, g := newCrowd(t, l)
		var mu sync.Mutex
		var all sync.WaitGroup
		began := time.Now()
		for range 800 {
			all.Go(func() {
				a, reason := ask(t, g, 1, 1)
				mu.Lock()
				defer mu.Unlock()
				if reason != "" {
					refused++
					return
				}
				a.Close(Outcome{})
			})
		}
		all.Wait()
		if took := time.Since(began); timeout > 0 && (took < 3800*time.Millisecond || took > 4000*time.Millisecond) {
			t.Errorf("800 took %v", took)
		}
	})
	return refused
}

// TestBursts: a repository that sends a second's requests at once does not get them
// admitted at once, or another's request would wait for the work of all of them.
func TestBursts(t *testing.T) {
	if at := admittedAtOnce(t, 5*time.Second); at != 100 {
		t.Errorf("%d of 1000 were admitted at once", at)
	}
}

// TestBurstsAreNeeded: where a burst is as large as the rate, they are.
func TestBurstsAreNeeded(t *testing.T) {
	if at := admittedAtOnce(t, 0); at != 1000 {
		t.Errorf("%d of 1000 were admitted at once", at)
	}
}

func admittedAtOnce(t *testing.T, timeout time.Duration) (admitted int) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Repository: Limit{RequestsPerSecond: 1000, QueuedRequests: 1000}, Step: Limit{QueuedRequests: 1000}, Total: Limit{QueuedRequests: 4000}, QueueTimeout: timeout}
		_, g := newCrowd(t, l)
		var all sync.WaitGroup
		var mu sync.Mutex
		began := time.Now()
		for i := range 1000 {
			all.Go(func() {
				a, _ := ask(t, g, 1, i%8)
				if a == nil {
					return
				}
				a.Close(Outcome{})
				mu.Lock()
				defer mu.Unlock()
				if time.Since(began) == 0 {
					admitted++
				}
			})
		}
		all.Wait()
	})
	return admitted
}

// TestQueuedClientLeaves: a request whose client has gone leaves the queue, and
// its refusal is counted.
func TestQueuedClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, g := newCrowd(t, Limits{Step: Limit{RequestsPerSecond: 1, QueuedRequests: 800}, Repository: Limit{QueuedRequests: 800}, Total: Limit{QueuedRequests: 4000}, QueueTimeout: time.Minute})
		a, _ := ask(t, g, 1, 1)
		defer a.Close(Outcome{})
		var gone atomic.Bool
		began := time.Now()
		waiting := attempt("api.partner.example:443")
		waiting.Credential, waiting.Gone = identity.NewCredential("1.1"), gone.Load
		time.AfterFunc(100*time.Millisecond, func() { gone.Store(true) })
		_, refusal := g.Admit(t.Context(), waiting)
		if refusal == nil || refusal.Reason != policy.StepLimit || refusal.Recorded || time.Since(began) != clientCheckInterval {
			t.Errorf("%+v after %v", refusal, time.Since(began))
		}
		if g.requests.Waiting() != 0 || g.requests.Held() != 1 || len(c.unrecorded) != 1 {
			t.Errorf("%d wait, %d held, %d counted", g.requests.Waiting(), g.requests.Held(), len(c.unrecorded))
		}
	})
}

// TestHeldHeads: the heads of what is under way are bounded in bytes, of a step, a
// repository and all, and a tunnel gives its head's back.
func TestHeldHeads(t *testing.T) {
	c, g := newCrowd(t, Limits{Step: Limit{HeaderBytes: 100}, Repository: Limit{HeaderBytes: 150}, Total: Limit{HeaderBytes: 1000}})
	admit := func(repository, step int) (*Admission, *Refusal) {
		a := attempt("api.partner.example:443")
		a.Credential, a.HeaderBytes = identity.NewCredential(fmt.Sprintf("%d.%d", repository, step)), 60
		return g.Admit(t.Context(), a)
	}
	first, _ := admit(1, 1)
	if _, r := admit(1, 1); r == nil || r.Reason != policy.StepLimit || r.Status != 429 || !strings.Contains(r.Detail, "heads") {
		t.Errorf("%+v", r)
	}
	second, _ := admit(1, 2)
	if _, r := admit(1, 3); r == nil || r.Reason != policy.RepositoryLimit {
		t.Errorf("%+v", r)
	}
	if other, r := admit(2, 1); r != nil {
		t.Errorf("another repository: %+v", r)
	} else {
		other.Close(Outcome{})
	}
	first.ReleaseHeader()
	third, r := admit(1, 3)
	if r != nil {
		t.Fatalf("%+v", r)
	}
	for _, a := range []*Admission{first, second, third} {
		a.Close(Outcome{})
	}
	if g.requests.Held() != 0 || len(c.asked) != 4 {
		t.Errorf("%d held, policy was asked %d times", g.requests.Held(), len(c.asked))
	}
}

// TestContradictoryLimits: a gate is not made with a share above its whole.
func TestContradictoryLimits(t *testing.T) {
	c := newEnv()
	_, err := NewGate(Config{Authenticator: c, Decider: c, Recorder: c, Resolver: c, Guard: c.guard, Limits: Limits{Step: Limit{Dials: 2}, Total: Limit{Dials: 1}}})
	if err == nil || !strings.Contains(err.Error(), "Limits") {
		t.Error(err)
	}
}
