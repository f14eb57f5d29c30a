package proxy

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// TestStepBytes: what a step may send is for all of its tunnels together. Without
// that each has a limit of its own, and who opens more sends more.
func TestStepBytes(t *testing.T) {
	for name, test := range map[string]struct {
		limits policy.Limits
		second Outcome
	}{
		"of the step":     {policy.Limits{StepSent: 10}, Outcome{Sent: 4, Cause: CauseStepSentLimit}},
		"of each tunnel":  {policy.Limits{Sent: 10}, Outcome{Sent: 6, Cause: CauseFinished}},
		"both, the least": {policy.Limits{Sent: 3, StepSent: 100}, Outcome{Sent: 3, Cause: CauseSentLimit}},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...rigOption) {
				options = append(options, withLimits(test.limits))
				counted := int64(6)
				if test.limits.Sent == 3 {
					counted = 3
				}
				first := newRig(t, options...).start()
				write(t, first.client, []byte("abcdef"))
				if test.second.Sent != 3 {
					wantRead(t, first.target, "abcdef")
				}
				if spent := first.admitted.account; spent != nil {
					until(t, "it is counted", func() bool { return spent.sent.Load() == counted })
				}
				second := newRig(t, options...)
				second.admitted.account = first.admitted.account // one gate's, of one step
				second.start()
				write(t, second.client, []byte("ghijkl"))
				if test.second.Cause == CauseFinished {
					_, _ = second.client.CloseWrite(), second.target.CloseWrite()
				}
				second.wantOutcome(test.second.Cause, test.second.Sent, 0)
			})
		})
	}
}

// TestStepReceivedBytes: the other way.
func TestStepReceivedBytes(t *testing.T) {
	r := newRig(t, withLimits(policy.Limits{StepReceived: 5})).start()
	write(t, r.target, []byte("abcdefgh"))
	r.wantOutcome(CauseStepReceivedLimit, 0, 5)
}

// TestStepHasSpentAll: a step that has nothing left is refused before the name is
// looked up, another step is not, and a day later nobody remembers.
func TestStepHasSpentAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.decision.Limits = policy.Limits{StepSent: 10, StepReceived: 20}
		g := w.gate(t)
		a, refusal := g.Admit(t.Context(), attempt(name))
		if refusal != nil {
			t.Fatalf("%+v", refusal)
		}
		if cause := a.Spend(10, 20); cause != "" {
			t.Errorf("to the last byte: %s", cause)
		}
		if cause := a.Spend(1, 0); cause != CauseStepSentLimit {
			t.Errorf("one more: %q", cause)
		}
		if cause := a.Spend(0, 1); cause != CauseStepReceivedLimit {
			t.Errorf("one more: %q", cause)
		}
		resolved := len(w.resolved)
		if _, refusal := g.Admit(t.Context(), attempt(name)); refusal == nil || refusal.Reason != policy.StepLimit || !refusal.Recorded || len(w.resolved) != resolved {
			t.Errorf("with nothing left: %+v, %d lookups", refusal, len(w.resolved)-resolved)
		}
		other := *w.principal
		other.Step.UUID = "11111111-1111-4111-8111-111111111111"
		w.principal = &other
		b, refusal := g.Admit(t.Context(), attempt(name))
		if refusal != nil {
			t.Fatalf("another step: %+v", refusal)
		}
		time.Sleep(accountForgets)
		w.decision.Limits = policy.Limits{StepSent: 10}
		c, refusal := g.Admit(t.Context(), attempt(name))
		if refusal != nil || len(g.accounts.steps) != 1 {
			t.Errorf("a day later %d accounts are left", len(g.accounts.steps))
		}
		for _, x := range []*Admission{a, b, c} {
			x.Close(Outcome{})
		}
	})
}
