package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// second is the revision that takes the place of the environments' own.
var second = policy.Revision{Digest: "sha256:beef", Commit: "decaf"}

// changes is a policy that can be changed, and keeps what was asked of it.
type changes struct {
	mu       sync.Mutex
	decision policy.Decision
	err      error
	asked    []policy.Request
	events   []audit.Event
}

func (c *changes) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, *r)
	return c.decision, c.err
}

func (c *changes) AvailableTo(audit.Source) error { return nil }

func (c *changes) Record(_ context.Context, e *audit.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, *e)
	return nil
}

func (c *changes) set(d policy.Decision, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.Revision = second
	c.decision, c.err = d, err
}

// reevaluate starts a reevaluator over a tracker.
func reevaluate(t testing.TB, tr *Tracker, c *changes) *Reevaluator {
	r := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: c, Recorder: c, Retry: 5 * time.Millisecond})
	r.Changed(policy.Revision{Digest: "sha256:feed"}, 0) // what the environments' decisions are of
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

var stillAllowed = policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Protocol: policy.ProtocolAny}

// passes sends a byte through a tunnel.
func (r *tunnelEnv) passes() {
	r.t.Helper()
	write(r.t, r.client, []byte("x"))
	wantRead(r.t, r.target, "x")
}

// TestPolicyChangeCloses: what the new revision does not allow is closed, and the closing
// event has the revision, the reason and the rule.
func TestPolicyChangeCloses(t *testing.T) {
	expires := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		decision policy.Decision
		target   string // "": a name
		reason   policy.Reason
	}{
		"denied":     {policy.Decision{Reason: policy.PolicyDenied, Rule: "no-partner", Rules: []string{"no-partner"}, Message: "not any more"}, "", policy.PolicyDenied},
		"unlisted":   {policy.Decision{Reason: policy.NoRuleMatched}, "", policy.NoRuleMatched},
		"zero value": {policy.Decision{}, "", policy.NoRuleMatched},
		"only TLS":   {policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Expires: expires}, "", policy.PolicyDenied},
		"no address": {stillAllowed, "127.0.0.1", policy.AddressProhibited},
	} {
		t.Run(name, func(t *testing.T) {
			tr, c := NewTracker(TunnelConfig{}), new(changes)
			c.set(test.decision, nil)
			r := openTunnel(t, withTracker(tr), withDecision(func(d *policy.Decision) { d.Address = true }))
			if test.target != "" {
				r.admitted.Target = destination.Target{Host: test.target, Port: 443, Addr: netip.MustParseAddr(test.target)}
			}
			r.passes()
			begun := time.Now()
			reevaluate(t, tr, c).Changed(second, 0)
			wantReset(t, r.client)
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			if o := r.outcome(); o.Cause != CausePolicyChanged || o.Sent != 1 {
				t.Errorf("ended with %+v", o)
			}
			e := r.w.events()[1]
			if e.Revision != second.Digest || e.Commit != second.Commit || e.Reason != string(test.reason) || e.Rule != test.decision.Rule {
				t.Errorf("the end is recorded as %+v", e)
			}
			if e.DecisionID != r.w.events()[0].DecisionID {
				t.Error("its end is another decision's")
			}
		})
	}
}

// TestReevaluatorIsNeeded is the control: nothing else closes them.
func TestReevaluatorIsNeeded(t *testing.T) {
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	c.set(policy.Decision{}, nil)
	r := openTunnel(t, withTracker(tr))
	NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: c, Recorder: c}).Changed(second, 0) // and it does not run
	r.passes()
	tr.Close(CauseOperator, nil)
	r.wantOutcome(CauseOperator, 1, 0)
}

// TestPolicyChangeKeeps: what is still allowed continues, in report mode too, and
// the question is the one that was asked at first, but for the time.
func TestPolicyChangeKeeps(t *testing.T) {
	for name, d := range map[string]policy.Decision{
		"allowed": stillAllowed,
		"report":  {Verdict: policy.Allow, Mode: policy.Report, WouldDeny: true, Reason: policy.NoRuleMatched, Protocol: policy.ProtocolAny},
	} {
		t.Run(name, func(t *testing.T) {
			tr, c := NewTracker(TunnelConfig{}), new(changes)
			c.set(d, nil)
			r := openTunnel(t, withTracker(tr))
			r.passes()
			before := time.Now().Truncate(time.Microsecond)
			red := reevaluate(t, tr, c)
			red.Changed(second, 0)
			proxytest.Eventually(t, "it was asked", func() bool { return red.Status().Evaluated == 1 })
			r.passes()
			q, first := c.asked[0], r.w.asked[0]
			if q.Time.Before(before) || q.Time.Location() != time.UTC {
				t.Errorf("asked for %s", q.Time)
			}
			if q.Time = first.Time; fmt.Sprint(q) != fmt.Sprint(*first) || q.Principal != first.Principal {
				t.Errorf("asked\n%+v, at first it was\n%+v", q, *first)
			}
			if len(c.events) != 0 {
				t.Errorf("recorded %+v", c.events)
			}
			_, _ = r.client.CloseWrite(), r.target.CloseWrite()
			r.wantOutcome(CauseFinished, 2, 0)
			if e := r.w.events()[1]; e.Revision != "" || e.Reason != "" {
				t.Errorf("an end of its own is recorded as %+v", e)
			}
		})
	}
}

// TestPolicyThatCannotBeEvaluatedClosesNothing: it is reported once, and evaluated again
// until there is a decision.
func TestPolicyThatCannotBeEvaluatedClosesNothing(t *testing.T) {
	for name, bad := range map[string]struct {
		decision policy.Decision
		err      error
	}{
		"error":          {policy.Decision{Reason: policy.PolicyError}, errors.New("a fault")},
		"allow and err":  {stillAllowed, errors.New("a fault")},
		"policy_error":   {policy.Decision{Reason: policy.PolicyError}, nil},
		"expired before": {policy.Decision{Verdict: policy.Allow, Expires: time.Unix(1, 0)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tr, c := NewTracker(TunnelConfig{}), new(changes)
			c.set(bad.decision, bad.err)
			r := openTunnel(t, withTracker(tr))
			red := reevaluate(t, tr, c)
			red.Changed(second, 0)
			proxytest.Eventually(t, "it was asked three times", func() bool { return red.Status().Evaluated >= 3 })
			r.passes()
			if s := red.Status(); s.Errors != 1 || s.Closed != 0 {
				t.Errorf("%+v", s)
			}
			c.mu.Lock()
			if len(c.events) != 1 || c.events[0].Kind != audit.KindPolicyReevaluated || c.events[0].Reason != string(policy.PolicyError) || c.events[0].Revision != second.Digest {
				t.Errorf("recorded %+v", c.events)
			}
			c.mu.Unlock()
			c.set(policy.Decision{Reason: policy.PolicyDenied}, nil)
			wantReset(t, r.client)
			if o := r.outcome(); o.Cause != CausePolicyChanged {
				t.Errorf("ended with %+v", o)
			}
			proxytest.Eventually(t, "all is decided", func() bool { return red.Status().Errors == 0 })
		})
	}
}

// TestPolicyChangeReachesTunnelsThatBeginLater: what was admitted by the previous revision and
// begins only after the change is evaluated by the new one.
func TestPolicyChangeReachesTunnelsThatBeginLater(t *testing.T) {
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	c.set(policy.Decision{Reason: policy.PolicyDenied}, nil)
	late := newTunnelEnv(t, withTracker(tr))
	red := reevaluate(t, tr, c)
	red.Changed(second, 0)
	proxytest.Eventually(t, "the change is done with", func() bool { return red.Status().Completed > 0 })
	late.start()
	wantReset(t, late.client)
	if o := late.outcome(); o.Cause != CausePolicyChanged {
		t.Errorf("ended with %+v", o)
	}
}

// TestPolicyChangeReachesRequests: a request under way is stopped, and one that
// becomes a tunnel meanwhile ends as that.
func TestPolicyChangeReachesRequests(t *testing.T) {
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	c.set(policy.Decision{Reason: policy.PolicyDenied}, nil)
	r := newTunnelEnv(t, withTracker(tr))
	r.admitted.action, r.admitted.http = policy.Forward, &policy.HTTPRequest{Method: "GET", Path: "/chat"}
	stopped := make(chan Cause, 1)
	end := tr.Begin(r.admitted, func(cause Cause) { stopped <- cause })
	reevaluate(t, tr, c).Changed(second, 0)
	if cause := <-stopped; cause != CausePolicyChanged {
		t.Errorf("stopped with %s", cause)
	}
	end()
	out := tr.RunUpgraded(r.admitted, r.stream, nil, r.upstream)
	if e := r.w.events()[1]; out.Cause != CausePolicyChanged || e.Kind != audit.KindRequestClosed || e.Revision != second.Digest {
		t.Errorf("ended with %+v, recorded as %+v", out, e)
	}
	if q := c.asked[0]; q.HTTP == nil || q.HTTP.Path != "/chat" || q.Action != policy.Forward {
		t.Errorf("asked %+v", q)
	}
}

// TestUpgradedIsReevaluated: a WebSocket that is open is closed, whatever it carries.
func TestUpgradedIsReevaluated(t *testing.T) {
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	r := newTunnelEnv(t, withTracker(tr), checked) // TLS is for tunnels only
	r.admitted.action, r.admitted.http = policy.Forward, &policy.HTTPRequest{Method: "GET", Path: "/chat"}
	ended := make(chan Outcome, 1)
	go func() { ended <- tr.RunUpgraded(r.admitted, r.stream, []byte("hi"), r.upstream) }()
	wantRead(t, r.target, "hi")
	c.set(policy.Decision{Verdict: policy.Allow}, nil)
	red := reevaluate(t, tr, c)
	red.Changed(second, 0)
	proxytest.Eventually(t, "it was asked", func() bool { return red.Status().Evaluated == 1 })
	c.mu.Lock()
	c.decision = policy.Decision{Reason: policy.NoRuleMatched, Revision: policy.Revision{Digest: "sha256:3"}}
	c.mu.Unlock()
	red.Changed(policy.Revision{Digest: "sha256:3"}, 0)
	if out := <-ended; out.Cause != CausePolicyChanged || out.Status != 101 {
		t.Errorf("ended with %+v", out)
	}
	_, _ = r.client.Close(), r.target.Close()
}

// TestPolicyChangeBringsTheEndForward: a new decision's expires and lifetime count
// for open tunnels, from its first decision on; they never put its end off.
func TestPolicyChangeBringsTheEndForward(t *testing.T) {
	for name, limit := range map[string]func(*policy.Decision){
		"lifetime": func(d *policy.Decision) { d.Limits.Lifetime = 300 * time.Millisecond },
		"expires":  func(d *policy.Decision) { d.Expires = time.Now().Add(300 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			tr, c := NewTracker(TunnelConfig{}), new(changes)
			r := openTunnel(t, withTracker(tr))
			d := stillAllowed
			limit(&d)
			c.set(d, nil)
			reevaluate(t, tr, c).Changed(second, 0)
			if o := r.outcome(); o.Cause != CauseLifetime {
				t.Errorf("ended with %+v", o)
			}
		})
	}
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	r := openTunnel(t, withTracker(tr), withLimits(policy.Limits{Lifetime: 300 * time.Millisecond}))
	c.set(stillAllowed, nil)
	reevaluate(t, tr, c).Changed(second, 0)
	if o := r.outcome(); o.Cause != CauseLifetime {
		t.Errorf("a new decision put the end off: %+v", o)
	}
}

// pass evaluates everything that the active revision was not applied to, here and now.
func (r *Reevaluator) pass(ctx context.Context) {
	r.begin(ctx)
	for r.queue.len() > 0 {
		item, _ := r.queue.wait()
		r.evaluate(ctx, item)
	}
}

// openMany fills a tracker with n open tunnels of steps with some targets each, over
// connections that do nothing.
func openMany(tb testing.TB, n, principals, targets int) *Tracker {
	tr := NewTracker(TunnelConfig{})
	steps := make([]*identity.Principal, principals)
	for i := range steps {
		steps[i] = &identity.Principal{Step: identity.Run{UUID: fmt.Sprint(i)}}
	}
	l := proxytest.Listen(tb, "127.0.0.1:0")
	defer l.Close()
	client, upstream := connected(tb, l)
	tb.Cleanup(func() { _, _ = client.Close(), upstream.Close() })
	began := time.Now()
	for i := range n {
		a := &Admission{ID: fmt.Sprint(i), Principal: steps[i%principals], Target: destination.Target{Host: fmt.Sprintf("h%d.example", i/principals%targets), Port: 443},
			action: policy.Connect, active: activation{digest: "sha256:feed"}, began: began, Admitted: began.UTC()}
		tun := newTunnel(tr.config, a, client, nil, upstream)
		tr.open[tun] = struct{}{}
	}
	return tr
}

// busy takes as long for a decision as a policy of some rules does.
type busy struct {
	changes
	takes time.Duration
	count int
}

func (b *busy) Decide(context.Context, *policy.Request) (policy.Decision, error) {
	for end := time.Now().Add(b.takes); time.Now().Before(end); {
		continue
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count++
	return policy.Decision{Verdict: policy.Allow, Revision: second}, nil
}

// TestQuestionsAreShared: ten thousand tunnels of a hundred steps to ten targets
// are a thousand questions, put by a bounded number of goroutines.
func TestQuestionsAreShared(t *testing.T) {
	tr, c := openMany(t, 10_000, 100, 10), new(busy)
	red := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: c, Recorder: c})
	red.Changed(second, 0)
	if red.pass(t.Context()); c.count != 1000 {
		t.Errorf("%d questions", c.count)
	}
	if red.pass(t.Context()); c.count != 1000 {
		t.Errorf("what was reevaluated was evaluated again: %d questions", c.count)
	}
}

// TestPolicyAppliedIsRecorded: one event has the effect of a change on open tunnels and
// requests.
func TestPolicyAppliedIsRecorded(t *testing.T) {
	tr, c := NewTracker(TunnelConfig{}), new(changes)
	c.set(policy.Decision{Reason: policy.PolicyDenied}, nil)
	r := openTunnel(t, withTracker(tr))
	reevaluate(t, tr, c).Changed(second, 0)
	_, _ = io.Copy(io.Discard, r.client)
	r.outcome()
	proxytest.Eventually(t, "it is recorded", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.events) == 1 })
	var told []string
	for _, a := range c.events[0].Attributes {
		told = append(told, a.Name+"="+a.Value)
	}
	if got := strings.Join(told, " "); got != "open=1 closed=1 would_deny=0 errors=0" || c.events[0].Kind != audit.KindPolicyReevaluated {
		t.Errorf("recorded %+v", c.events[0])
	}
}

// BenchmarkReevaluate puts 10,000 open tunnels to a new revision. "shared" are a
// hundred steps with ten targets each; "own" is the worst case, a question each.
// A decision takes 50 µs here, about what OPA needs for a policy of some rules.
func BenchmarkReevaluate(b *testing.B) {
	for name, steps := range map[string]int{"shared": 100, "own": 10_000} {
		for _, takes := range []time.Duration{0, 50 * time.Microsecond} {
			b.Run(fmt.Sprintf("%s/%v", name, takes), func(b *testing.B) {
				tr, c := openMany(b, 10_000, steps, 10), &busy{takes: takes}
				red := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: c, Recorder: c})
				red.Changed(second, 0)
				b.ReportAllocs()
				for b.Loop() {
					for tun := range tr.open {
						tun.admission.active = activation{digest: "sha256:feed"}
					}
					red.pass(b.Context())
				}
			})
		}
	}
}

// BenchmarkDecisionsMeanwhile is what one decision of 50 µs takes from beginning
// to end while 10,000 tunnels are reevaluated over and over, a question each, and
// while they are not.
func BenchmarkDecisionsMeanwhile(b *testing.B) {
	for _, meanwhile := range []bool{false, true} {
		b.Run(fmt.Sprintf("reevaluating=%t", meanwhile), func(b *testing.B) {
			tr, c := openMany(b, 10_000, 10_000, 1), &busy{takes: 50 * time.Microsecond}
			red := NewReevaluator(ReevaluatorConfig{Tracker: tr, Decider: c, Recorder: c})
			ctx, cancel := context.WithCancel(context.Background())
			var working sync.WaitGroup
			if meanwhile {
				working.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						red.Changed(policy.Revision{Digest: fmt.Sprint(i)}, 0)
						red.pass(ctx)
					}
				})
			}
			for b.Loop() {
				_, _ = c.Decide(ctx, nil)
			}
			cancel()
			working.Wait()
		})
	}
}
