package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func pool(t testing.TB, c Config) *Pool {
	t.Helper()
	if c.Limits.Memory == 0 {
		c.Limits.Memory, c.Limits.Stack = 64<<20, 16<<20
	}
	p := New(c)
	t.Cleanup(p.Close)
	return p
}

func call(share, request string) *Call {
	return &Call{Share: share, QuarantineKey: share, Request: []byte(request), Limit: 100 * time.Millisecond, MaxReply: 1 << 16}
}

func ask(t testing.TB, p *Pool, share, request string) string {
	t.Helper()
	reply, err := p.Do(t.Context(), call(share, request))
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return string(reply)
}

// waiting returns when so many calls wait.
func waiting(t testing.TB, p *Pool, n int) {
	t.Helper()
	for p.Status().Waiting != n {
		if t.Context().Err() != nil {
			t.Fatal("the test has ended")
		}
		runtime.Gosched()
	}
}

// TestDeaths: each way to die is known by its cause, the share alone is refused
// afterwards, and calls of others are answered all the time.
func TestDeaths(t *testing.T) {
	for _, c := range []struct {
		request string
		cause   Cause
	}{
		{"spin 1h", OutOfTime},
		{"sleep", OutOfTime},
		{"allocate 2000000000", OutOfMemory},
		{"stack", OutOfStack},
		{"exit", Crashed},
		{"garbage", BadReply},
		{"long 70000", BadReply},
	} {
		t.Run(c.request, func(t *testing.T) {
			t.Parallel()
			died := make(chan string, 10)
			p := pool(t, Config{Workers: 2, Quarantine: time.Hour, OnDeath: func(share string, d *Death) { died <- share + " " + string(d.Cause) }})
			ask(t, p, "good", "echo hello")
			stop := make(chan struct{})
			var others sync.WaitGroup
			for i := range 4 {
				others.Go(func() {
					for n := 0; ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						want := fmt.Sprintf("%d %d", i, n)
						reply, err := p.Do(t.Context(), call(fmt.Sprint("good", i), "echo "+want))
						if err != nil || string(reply) != want {
							t.Errorf("another share: %q, %v instead of %q", reply, err, want)
							return
						}
					}
				})
			}
			_, err := p.Do(t.Context(), call("bad", c.request))
			death, ok := errors.AsType[*Death](err)
			if !ok || death.Cause != c.cause {
				t.Errorf("%v, want a death by %s", err, c.cause)
			}
			if c.request == "stack" && death.Mark != 42 {
				t.Errorf("the mark is %d", death.Mark)
			}
			_, err = p.Do(t.Context(), call("bad", "echo hello"))
			q, ok := errors.AsType[*Quarantined](err)
			if !ok || q.Death.Cause != c.cause {
				close(stop)
				t.Fatalf("after its death: %v", err)
			}
			again := diagnosed(t, p, "bad", 7)
			if !again.Until.After(q.Until) {
				t.Errorf("after the diagnosis the quarantine ends at %v, not after %v", again.Until, q.Until)
			}
			if known := c.request == "stack"; known && again.Death.Mark != 42 || !known && again.Death.Mark != 7 {
				t.Errorf("after the diagnosis the mark is %d", again.Death.Mark)
			}
			close(stop)
			others.Wait()
			close(died)
			for got := range died {
				if got != "bad "+string(c.cause) {
					t.Errorf("a death: %s", got)
				}
			}
			if st := p.Status(); st.Deaths[c.cause] != 1 || fmt.Sprint(st.Shares) != "[bad]" || st.Quarantined != 2 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestDeathOfABatch: what dies among others is found, and they are answered.
func TestDeathOfABatch(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	ask(t, p, "good", "echo x")
	// While this one is executed the others gather in the queue.
	var calls sync.WaitGroup
	calls.Go(func() { ask(t, p, "first", "spin 90ms") })
	waiting(t, p, 0)
	for i := range 12 {
		calls.Go(func() {
			request := fmt.Sprintf("echo %d", i)
			if i == 5 {
				request = "exit"
			}
			reply, err := p.Do(t.Context(), call(fmt.Sprint("share", i), request))
			switch _, dead := errors.AsType[*Death](err); {
			case i == 5 && !dead:
				t.Errorf("the bad one: %q, %v", reply, err)
			case i != 5 && (err != nil || string(reply) != fmt.Sprint(i)):
				t.Errorf("%d: %q, %v", i, reply, err)
			}
		})
	}
	calls.Wait()
}

// TestMemoryOfOthers: a call that fails for what earlier calls have left in its
// worker is answered by a fresh one.
func TestMemoryOfOthers(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	for range 2 {
		ask(t, p, "greedy", "keep 24000000")
	}
	if got := ask(t, p, "good", "allocate 24000000"); got != "allocated" {
		t.Error(got)
	}
	if deaths := p.Status().Deaths; len(deaths) != 0 {
		t.Errorf("%v", deaths)
	}
}

func TestRetire(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	first := ask(t, p, "a", "pid")
	ask(t, p, "a", "retire")
	if second := ask(t, p, "a", "pid"); second == first || len(p.Status().Deaths) != 0 {
		t.Errorf("%s and %s, %+v", first, second, p.Status())
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	c := call("a", "more")
	c.Follow = func(reply []byte) []byte {
		if string(reply) == "more" {
			return []byte("echo done")
		}
		return nil
	}
	if reply, err := p.Do(t.Context(), c); err != nil || string(reply) != "done" {
		t.Errorf("%q, %v", reply, err)
	}
	c.Follow = func([]byte) []byte { return []byte("more") }
	if reply, err := p.Do(t.Context(), c); err == nil {
		t.Errorf("%q without an end", reply)
	}
}

// TestProgressTimeout: progress keeps a call alive, silence does not.
func TestProgressTimeout(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	c := call("a", "tick")
	c.Limit, c.ProgressTimeout = time.Minute, 200*time.Millisecond
	if reply, err := p.Do(t.Context(), c); err != nil || string(reply) != "ticked" {
		t.Errorf("%q, %v", reply, err)
	}
	c.Request = []byte("spin 1h")
	if _, err := p.Do(t.Context(), c); err == nil {
		t.Error("it ended")
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	ask(t, p, "a", "echo x")
	for _, request := range []string{"spin 1h", "sleep"} {
		c := call("a", request)
		c.Limit = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := p.Do(ctx, c)
			failed <- err
		}()
		for busy := false; !busy; {
			p.mu.Lock()
			busy = p.shares["a"].running[Interactive]
			p.mu.Unlock()
		}
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		// The worker is free again, and no call is to blame.
		ask(t, p, "a", "echo x")
		if st := p.Status(); len(st.Deaths)+len(st.Shares) > 0 {
			t.Errorf("%+v", st)
		}
	}
}

// TestQueueBound: a share may wait with so many calls, and others are not refused.
func TestQueueBound(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1, Queue: 3, QueueTimeout: time.Hour})
	ask(t, p, "a", "spin 15ms") // it is heavy, and its calls are executed one by one
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls sync.WaitGroup
	start := func() {
		calls.Go(func() {
			c := call("a", "spin 1h")
			c.Limit = time.Hour
			_, _ = p.Do(ctx, c)
		})
	}
	for i := range 4 { // one is executed
		start()
		waiting(t, p, i)
	}
	if _, err := p.Do(t.Context(), call("a", "echo x")); !errors.Is(err, ErrQueueFull) {
		t.Error(err)
	}
	waits := make(chan error)
	go func() {
		_, err := p.Do(ctx, call("b", "echo x"))
		waits <- err
	}()
	waiting(t, p, 4)
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	calls.Wait()
}

func TestQueueTimeout(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1, QueueTimeout: 50 * time.Millisecond, Grace: time.Hour})
	for { // while the worker starts, calls may wait for too long
		if _, err := p.Do(t.Context(), call("a", "echo x")); err == nil {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() {
		c := call("a", "sleep")
		c.Limit = time.Hour
		_, _ = p.Do(ctx, c)
	})
	for {
		if _, err := p.Do(t.Context(), call("b", "echo x")); errors.Is(err, ErrQueueTimeout) {
			break
		}
	}
	cancel()
	first.Wait()
}

// TestHeavyShares: however many shares have slow calls, a light one and an urgent one
// are answered while they are executed; of six workers, a background one is too.
func TestHeavyShares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		workers   int
		attacks   []Class // of six shares each
		executing int
		answered  []Class
	}{
		{4, []Class{Interactive, Background, Long}, 2, []Class{Interactive, Urgent}},
		{6, []Class{Interactive, Long}, 2, []Class{Interactive, Urgent, Background}},
		{6, []Class{Interactive, Background}, 3, []Class{Interactive, Urgent}},
		{6, []Class{Background}, 2, []Class{Interactive, Urgent, Long}},
		{6, []Class{Urgent}, 1, []Class{Interactive, Background, Long}},
	} {
		t.Run(fmt.Sprint(c.workers, c.attacks), func(t *testing.T) {
			t.Parallel()
			p := pool(t, Config{Workers: c.workers, QueueTimeout: time.Hour})
			for i := range 6 { // that they are heavy is known
				ask(t, p, fmt.Sprint(Interactive, i), "spin 15ms")
			}
			ctx, cancel := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			for _, class := range c.attacks {
				for i := range 6 {
					calls.Go(func() {
						c := call(fmt.Sprint(class, i), "sleep")
						c.Limit, c.Class = time.Hour, class
						_, _ = p.Do(ctx, c)
					})
				}
			}
			waiting(t, p, 6*len(c.attacks)-c.executing)
			for _, class := range c.answered {
				for i := range 10 {
					one := call(fmt.Sprint("other", i), "echo x")
					one.Class = class
					if _, err := p.Do(t.Context(), one); err != nil {
						t.Fatal(err)
					}
				}
			}
			cancel()
			calls.Wait()
		})
	}
}

// TestBackgroundIsNeeded: calls that no client waits for, as those of a candidate policy,
// leave a worker to calls that a client waits for. In the class of the latter they hold
// all workers.
func TestBackgroundIsNeeded(t *testing.T) {
	t.Parallel()
	for class, timeout := range map[Class]time.Duration{Background: time.Hour, Interactive: 50 * time.Millisecond} {
		t.Run(fmt.Sprint(class), func(t *testing.T) {
			t.Parallel()
			p := pool(t, Config{Workers: 4, QueueTimeout: timeout})
			ctx, cancel := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			executing := 0
			for i := range 8 {
				calls.Go(func() {
					c := call(fmt.Sprint("candidate of ", i), "sleep")
					c.Limit, c.Class = time.Hour, class
					_, _ = p.Do(ctx, c)
				})
			}
			for executing < 1 || class == Interactive && executing < 4 {
				p.mu.Lock()
				executing = 0
				for _, s := range p.shares {
					if s.running[class] {
						executing++
					}
				}
				p.mu.Unlock()
				runtime.Gosched()
			}
			_, err := p.Do(t.Context(), call("decision", "echo x"))
			if class == Background && err != nil || class == Interactive && !errors.Is(err, ErrQueueTimeout) {
				t.Errorf("a decision beside calls of class %d: %v", class, err)
			}
			cancel()
			calls.Wait()
		})
	}
}

func TestProgramThatIsNoWorker(t *testing.T) {
	handled.Store(false)
	defer handled.Store(true)
	p := pool(t, Config{Workers: 1})
	if _, err := p.Do(t.Context(), call("a", "echo x")); err == nil || !strings.Contains(err.Error(), "worker.Main") {
		t.Error(err)
	}
}

func BenchmarkCall(b *testing.B) {
	request := "echo " + strings.Repeat("x", 900)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			p := pool(b, Config{})
			ask(b, p, "a", request)
			b.SetParallelism(max(1, callers/2))
			var n sync.Mutex
			caller := 0
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				n.Lock()
				caller++
				share := fmt.Sprint("share", caller)
				n.Unlock()
				if callers == 1 && share != "share1" {
					for pb.Next() {
						return
					}
				}
				for pb.Next() {
					if _, err := p.Do(b.Context(), call(share, request)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// TestSharesAreNeeded: a share with many slow calls does not delay another's. In one
// queue for all of them the other waits to the end.
func TestSharesAreNeeded(t *testing.T) {
	t.Parallel()
	const slow, quick = 60, 20
	for _, c := range []struct {
		victim string
		before bool // it is answered before half of the slow calls are
	}{{"victim", true}, {"attacker", false}} {
		t.Run(c.victim, func(t *testing.T) {
			t.Parallel()
			p := pool(t, Config{Workers: 4, QueueTimeout: time.Hour})
			ask(t, p, "attacker", "spin 15ms")
			ask(t, p, "victim", "echo x")
			ctx, cancel := context.WithCancel(t.Context())
			var attack sync.WaitGroup
			var answered atomic.Int64
			for range slow {
				attack.Go(func() {
					if _, err := p.Do(ctx, call("attacker", "spin 15ms")); err == nil {
						answered.Add(1)
					}
				})
			}
			for p.Status().Waiting < slow/2 {
				runtime.Gosched()
			}
			began := answered.Load()
			for range quick {
				ask(t, p, c.victim, "echo x")
			}
			if before := answered.Load()-began < slow/2; before != c.before {
				t.Errorf("%d slow calls were answered while %d quick ones were", answered.Load()-began, quick)
			}
			cancel()
			attack.Wait()
		})
	}
}
