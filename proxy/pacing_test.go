package proxy

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// oneProcessor makes each decision use the only processor for a millisecond of simulated time.
type oneProcessor struct {
	*env
	free chan struct{}
}

func (p oneProcessor) Decide(ctx context.Context, r *policy.Request) (policy.Decision, error) {
	p.free <- struct{}{}
	time.Sleep(time.Millisecond)
	<-p.free
	return p.env.Decide(ctx, r)
}

// TestPacing: while 64 clients of a repository send one request after the other, a request
// of another repository does not wait for all of them. The processor is never idle, and
// nothing is refused.
func TestPacing(t *testing.T) {
	longest, busy := besideABusyRepository(t, func(c fair.Config) fair.Config {
		if want := unsettledPerProcessor * runtime.GOMAXPROCS(0); c.Width != want || c.Narrow == 0 {
			t.Errorf("the width is %d, not %d, or %d", c.Width, want, c.Narrow)
		}
		c.Width, c.Narrow = unsettledPerProcessor, 1 // also on a machine with more processors than the simulated one
		return c
	})
	if longest > 5*time.Millisecond || busy < 850 {
		t.Errorf("a request took %v beside %d a second of another repository", longest, busy)
	}
}

// TestPacingIsNeeded: without the width, it waits for all of them.
func TestPacingIsNeeded(t *testing.T) {
	longest, busy := besideABusyRepository(t, func(c fair.Config) fair.Config {
		c.Width, c.Narrow = 0, 0
		return c
	})
	if longest < 40*time.Millisecond || busy < 850 {
		t.Errorf("a request took %v beside %d a second of another repository: the pacing is not needed", longest, busy)
	}
}

// besideABusyRepository returns the longest of a repository's requests, and how many of a
// busy one were admitted in a second.
func besideABusyRepository(t *testing.T, change func(fair.Config) fair.Config) (longest time.Duration, busy int) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{Step: Limit{QueuedRequests: 1000}, Repository: Limit{RequestsPerSecond: 10_000, QueuedRequests: 1000}, Total: Limit{QueuedRequests: 1000}, QueueTimeout: 5 * time.Second}
		c := crowd{env: newEnv()}
		c.addrs = []netip.Addr{netip.MustParseAddr("203.0.114.7")}
		c.env.config = func(config *Config) {
			config.Authenticator, config.Limits, config.Decider = c, l, oneProcessor{c.env, make(chan struct{}, 1)}
		}
		g := c.gate(t)
		g.requests = fair.New(change(l.requests()))
		var stop atomic.Bool
		var admitted atomic.Int64
		var all sync.WaitGroup
		request := func(repository, step int) {
			a, reason := ask(t, g, repository, step)
			if reason != "" {
				t.Errorf("refused: %s", reason)
				return
			}
			a.Close(Outcome{})
		}
		for n := range 64 {
			all.Go(func() {
				for !stop.Load() {
					request(1, n%8)
					admitted.Add(1)
				}
			})
		}
		var before int64
		var measured time.Time
		for n := range 200 {
			if n == 100 { // what the busy repository began alone is done
				longest, before, measured = 0, admitted.Load(), time.Now()
			}
			began := time.Now()
			request(2, 1)
			took := time.Since(began)
			longest = max(longest, took)
			time.Sleep(max(0, 10*time.Millisecond-took))
		}
		busy = int(float64(admitted.Load()-before) / time.Since(measured).Seconds())
		stop.Store(true)
		all.Wait()
	})
	return longest, busy
}
