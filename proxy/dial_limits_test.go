package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

// dialLimits are in proportion to the configuration's defaults.
func dialLimits(timeout time.Duration) Limits {
	return Limits{Step: Limit{Dials: 4, QueuedRequests: 50}, Repository: Limit{Dials: 8, QueuedRequests: 100}, Total: Limit{Dials: 32, QueuedRequests: 200}, QueueTimeout: timeout}
}

// dialing is a gate whose targets are on loopback, and how a step of a repository
// is admitted to a port.
func dialing(t *testing.T, l Limits) (*Gate, func(repository, step int, port uint16) *Admission) {
	c := crowd{env: newEnv()}
	c.guard, c.addrs = loopback, []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	c.dialer.Timeout = patience
	c.env.config = func(config *Config) { config.Authenticator, config.Limits = c, l }
	g := c.gate(t)
	return g, func(repository, step int, port uint16) *Admission {
		at := attempt(fmt.Sprintf("%s:%d", targetName, port))
		at.Credential = identity.NewCredential(fmt.Sprintf("%d.%d", repository, step))
		a, refusal := g.Admit(t.Context(), at)
		if refusal != nil {
			t.Fatalf("%+v", refusal)
		}
		return a
	}
}

// TestDialsAtOnce: steps that dial a silent port, as many as they can, leave the
// dials of another repository theirs; what is over a share waits, and is refused
// where no dial ends.
func TestDialsAtOnce(t *testing.T) {
	if refused := dialsBesideSilence(t, dialLimits(50*time.Millisecond)); refused != 0 {
		t.Errorf("%d of 20 dials of another repository were refused", refused)
	}
}

// TestDialSharesAreNeeded is the attack: with one limit for all, nothing is left.
func TestDialSharesAreNeeded(t *testing.T) {
	l := dialLimits(50 * time.Millisecond)
	l.Step.Dials, l.Repository.Dials = 0, 0
	l.Step.QueuedRequests, l.Repository.QueuedRequests = 200, 200
	// All are of one repository, as far as the gate knows: no share is left free.
	if refused := dialsBesideSilence(t, l, 1); refused != 20 {
		t.Errorf("%d of 20 dials were refused", refused)
	}
}

// dialsBesideSilence returns how many of 20 dials of one repository are refused
// while three steps of another dial a silent port. The victim is repository 2.
func dialsBesideSilence(t *testing.T, l Limits, victim ...int) (refused int) {
	hole, target := blackHole(t, "127.0.0.1"), proxytest.Listen(t, "127.0.0.1:0")
	defer target.Close()
	g, admit := dialing(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 60 {
		a := admit(1, i%3, hole.Port())
		all.Go(func() {
			conn, refusal := a.Dial(ctx)
			if conn != nil {
				t.Error("the silent port answered")
			}
			a.Close(Outcome{Cause: refusal.Cause()})
		})
	}
	defer all.Wait()
	defer cancel()
	proxytest.Eventually(t, "the silent dials have what they can have", func() bool { return g.dials.Held() >= 8 && g.dials.Waiting() == 0 })
	repository := 2
	if len(victim) > 0 {
		repository = victim[0]
	}
	for range 20 {
		a := admit(repository, 9, addrPort(target.Addr()).Port())
		conn, refusal := a.Dial(t.Context())
		switch {
		case refusal == nil:
			_ = conn.Close()
		case refusal.RetryAfter == 0 || refusal.Cause() != CauseOverloaded || refusal.Status != 503 && refusal.Status != 429:
			t.Errorf("%+v", refusal)
		default:
			refused++
		}
		a.Close(Outcome{})
	}
	return refused
}

// TestDialWaits: one more dial waits for a slot, and each level has its reason.
func TestDialWaits(t *testing.T) {
	target := proxytest.Listen(t, "127.0.0.1:0")
	defer target.Close()
	port := addrPort(target.Addr()).Port()
	for _, test := range []struct {
		limits Limits
		reason policy.Reason
		status int
	}{
		{Limits{Step: Limit{Dials: 1}}, policy.StepLimit, 429},
		{Limits{Repository: Limit{Dials: 1}}, policy.RepositoryLimit, 429},
		{Limits{Total: Limit{Dials: 1}}, policy.Overloaded, 503},
	} {
		g, admit := dialing(t, test.limits)
		a := admit(1, 1, port)
		slot, err := g.dials.TryAcquire(subject(a.Principal), 0) // of another dial
		if err != nil {
			t.Fatal(err)
		}
		if _, refusal := a.Dial(t.Context()); refusal == nil || refusal.Reason != test.reason || refusal.Status != test.status {
			t.Errorf("%+v: %+v", test.limits, refusal)
		}
		slot.Release()
		conn, refusal := a.Dial(t.Context())
		if refusal != nil {
			t.Fatalf("with a slot: %+v", refusal)
		}
		_ = conn.Close()
		a.Close(Outcome{})
	}
	g, admit := dialing(t, Limits{Total: Limit{Dials: 1, QueuedRequests: 1}, Repository: Limit{QueuedRequests: 1}, Step: Limit{QueuedRequests: 1}, QueueTimeout: patience})
	a := admit(1, 1, port)
	defer a.Close(Outcome{})
	slot, _ := g.dials.TryAcquire(subject(a.Principal), 0)
	waiting := make(chan *Refusal)
	go func() {
		conn, refusal := a.Dial(t.Context())
		if conn != nil {
			_ = conn.Close()
		}
		waiting <- refusal
	}()
	proxytest.Eventually(t, "it waits", func() bool { return g.dials.Waiting() == 1 })
	slot.Release()
	if refusal := <-waiting; refusal != nil {
		t.Errorf("with a slot: %+v", refusal)
	}
}
