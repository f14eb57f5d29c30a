package proxy

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// TestStepBytes: what a step may send is for all of its tunnels together. Without
// that each has a limit of its own, and who opens more sends more.
func TestStepBytes(t *testing.T) {
	for name, test := range map[string]struct {
		limits policy.Limits
		second Outcome
	}{
		"of the step":     {policy.Limits{StepSent: 10}, Outcome{Sent: 4, Cause: CauseStepBytesSentLimit}},
		"of each tunnel":  {policy.Limits{Sent: 10}, Outcome{Sent: 6, Cause: CauseFinished}},
		"both, the least": {policy.Limits{Sent: 3, StepSent: 100}, Outcome{Sent: 3, Cause: CauseBytesSentLimit}},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, options ...tunnelOption) {
				options = append(options, withLimits(test.limits))
				counted := int64(6)
				if test.limits.Sent == 3 {
					counted = 3
				}
				first := newTunnelEnv(t, options...).start()
				write(t, first.client, []byte("abcdef"))
				if test.second.Sent != 3 {
					wantRead(t, first.target, "abcdef")
				}
				if spent := first.admitted.quota; spent != nil {
					proxytest.Eventually(t, "it is counted", func() bool { return spent.sent.Load() == counted })
				}
				second := newTunnelEnv(t, options...)
				second.admitted.setQuota(first.admitted.quota) // one gate's, of one step
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
	r := newTunnelEnv(t, withLimits(policy.Limits{StepReceived: 5})).start()
	write(t, r.target, []byte("abcdefgh"))
	r.wantOutcome(CauseStepBytesReceivedLimit, 0, 5)
}

// TestExhaustedStepIsRefused: a step that has nothing left is refused before the name is looked
// up, another step is not, and the quota is forgotten after a day.
func TestExhaustedStepIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEnv()
		w.decision.Limits = policy.Limits{StepSent: 10, StepReceived: 20}
		g := w.gate(t)
		a, refusal := g.Admit(t.Context(), attempt(name))
		if refusal != nil {
			t.Fatalf("%+v", refusal)
		}
		if sent, received := a.ReserveSent(10), a.ReserveReceived(20); sent != 10 || received != 20 {
			t.Errorf("to the last byte: %d and %d bytes granted", sent, received)
		}
		if n := a.ReserveSent(1); n != 0 {
			t.Errorf("%d more bytes granted to be sent", n)
		}
		if cause, r := a.OverSent(); cause != CauseStepBytesSentLimit || r.Reason != policy.StepLimit {
			t.Errorf("one more: %q, %+v", cause, r)
		}
		if n := a.ReserveReceived(1); n != 0 {
			t.Errorf("%d more bytes granted to be received", n)
		}
		if cause, r := a.OverReceived(); cause != CauseStepBytesReceivedLimit || r.Reason != policy.StepLimit {
			t.Errorf("one more: %q, %+v", cause, r)
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
		time.Sleep(quotaMaxIdle)
		w.decision.Limits = policy.Limits{StepSent: 10}
		c, refusal := g.Admit(t.Context(), attempt(name))
		if refusal != nil || len(g.quotas.steps) != 1 {
			t.Errorf("a day later %d quotas are left", len(g.quotas.steps))
		}
		for _, x := range []*Admission{a, b, c} {
			x.Close(Outcome{})
		}
	})
}

// TestStepBytesTogether: tunnels of one step that send at the same moment do not
// pass its limit together.
func TestStepBytesTogether(t *testing.T) {
	var spent byteQuota
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		m := &meter{step: &spent.sent, stepLimit: 10_000}
		wg.Go(func() {
			for range 1000 {
				n := m.reserve(7)
				m.unreserve(n / 2)
				granted.Add(int64(n - n/2))
			}
		})
	}
	wg.Wait()
	if granted.Load() != spent.sent.Load() || granted.Load() > 10_000 || granted.Load() < 10_000-50 {
		t.Errorf("%d bytes were granted of 10000, and %d are counted", granted.Load(), spent.sent.Load())
	}
}

// TestQuotasAreBounded: a repository with ever new steps gets no more than its
// share of quotas, and costs another none; after a day they are forgotten.
func TestQuotasAreBounded(t *testing.T) {
	var s byteQuotas
	now := time.Now()
	step := func(repository, step int) *identity.Principal {
		return &identity.Principal{Repository: identity.Repository{UUID: fmt.Sprint(repository)}, Step: identity.Run{UUID: fmt.Sprint(step)}}
	}
	for i := range maxRepositoryQuotas + 1000 {
		if a := s.forPrincipal(step(1, i), now); (a != nil) != (i < maxRepositoryQuotas) {
			t.Fatalf("step %d: %v", i, a)
		}
	}
	if s.forPrincipal(step(2, 1), now) == nil {
		t.Error("another repository gets no quota")
	}
	if s.forPrincipal(step(1, 7), now) == nil {
		t.Error("an existing quota was not found")
	}
	if s.forPrincipal(step(3, 1), now.Add(quotaMaxIdle+time.Hour)) == nil || len(s.steps) != 1 || len(s.repositories) != 1 {
		t.Errorf("%d steps of %d repositories are remembered", len(s.steps), len(s.repositories))
	}
}

// TestStepWithoutQuota: a step whose bytes cannot be counted is refused.
func TestStepWithoutQuota(t *testing.T) {
	w := newEnv()
	w.decision.Limits = policy.Limits{StepSent: 10}
	g := w.gate(t)
	for i := range maxRepositoryQuotas {
		p := *w.principal
		p.Step.UUID = fmt.Sprint(i)
		g.quotas.forPrincipal(&p, time.Now())
	}
	if _, refusal := g.Admit(t.Context(), attempt(name)); refusal == nil || refusal.Reason != policy.RepositoryLimit || len(w.resolved) != 0 {
		t.Errorf("%+v", refusal)
	}
}
