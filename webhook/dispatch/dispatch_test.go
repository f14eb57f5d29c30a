package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// run starts a dispatcher over a store, and returns it and a function that ends it at once.
func run(t *testing.T, store webhook.Store, change func(*Dispatcher), endpoints ...Endpoint) (*Dispatcher, func()) {
	t.Helper()
	d, err := New(Config{Store: store, Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go d.Run(ctx)
	return d, func() {
		cancel()
		<-d.done
	}
}

func accept(t *testing.T, m *memory, endpoint, repository string) string {
	t.Helper()
	delivery, err := m.add(endpoint, repository)
	if err != nil {
		t.Fatal(err)
	}
	return delivery
}

func TestDeliversInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{latency: 40 * time.Millisecond}
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		accepted := map[string][]string{}
		for i := range 60 {
			repository := fmt.Sprint("r", i%3)
			stream := "jenkins " + repository
			accepted[stream] = append(accepted[stream], accept(t, m, "jenkins", repository))
		}
		time.Sleep(10 * time.Second)
		if faults := check(accepted, e.all()); faults != nil {
			t.Error(faults)
		}
		if len(e.all()) != 60 || m.states()[webhook.TaskDone] != 60 {
			t.Errorf("%d arrivals, states %v", len(e.all()), m.states())
		}
	})
}

// TestStatuses has the state of a delivery after each kind of response.
func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		status   int
		attempts int // within an hour; 0: many
		state    webhook.TaskState
	}{
		{204, 1, webhook.TaskDone}, {410, 1, webhook.TaskDead}, {400, 3, webhook.TaskDead}, {422, 3, webhook.TaskDead},
		{302, 0, webhook.TaskPending}, {404, 0, webhook.TaskPending}, {503, 0, webhook.TaskPending},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := newMemory(), &target{answer: respond(c.status)}
				_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
				defer stop()
				id := accept(t, m, "jenkins", "r")
				time.Sleep(time.Hour)
				n := len(e.all())
				if c.attempts != 0 && n != c.attempts || c.attempts == 0 && (n < 15 || n > 200) || m.states()[c.state] != 1 {
					t.Errorf("%d attempts, states %v", n, m.states())
				}
				for i, a := range e.all() {
					if a.attempt != i+1 || a.delivery != id {
						t.Errorf("arrival %d: %+v", i, a)
					}
				}
				if c.state == webhook.TaskDead && !strings.Contains(m.causeOf(1), fmt.Sprint(c.status)) {
					t.Errorf("cause %q", m.causeOf(1))
				}
			})
		})
	}
}

// TestTimeBudget ends a delivery as a dead letter after retry_for, with an attempt at its end;
// the next of the stream follows.
func TestTimeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{answer: respond(500)}
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send, RetryFor: 2 * time.Hour})
		defer stop()
		began := time.Now()
		first := accept(t, m, "jenkins", "r")
		time.Sleep(time.Hour)
		second := accept(t, m, "jenkins", "r")
		time.Sleep(59 * time.Minute)
		if m.states()[webhook.TaskDead] != 0 {
			t.Fatal("a dead letter before its time")
		}
		time.Sleep(3 * time.Minute)
		if m.causeOf(1) != "the endpoint responded with status 500" {
			t.Fatalf("cause %q", m.causeOf(1))
		}
		e.set(nil)
		time.Sleep(10 * time.Minute)
		all := e.all()
		var last time.Time
		for _, a := range all {
			if a.delivery == first {
				last = a.at
			}
		}
		if d := last.Sub(began); d < 2*time.Hour || d > 2*time.Hour+2*time.Minute {
			t.Errorf("the last attempt was after %s", d)
		}
		if all[len(all)-1].delivery != second || m.states()[webhook.TaskDone] != 1 {
			t.Errorf("the stream was not continued: %v", m.states())
		}
	})
}

// TestOldDeliveryIsAttempted has deliveries that are older than the budget when the gateway
// comes back: each is sent once at least.
func TestOldDeliveryIsAttempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{}
		accept(t, m, "jenkins", "r")
		time.Sleep(72 * time.Hour)
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		time.Sleep(time.Minute)
		if m.states()[webhook.TaskDone] != 1 {
			t.Error(m.states())
		}
	})
}

// TestCannotBeCarriedOut has tasks that end without an attempt.
func TestCannotBeCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{}
		accept(t, m, "jenkins", "a")
		accept(t, m, "jenkins", "b")
		m.tasks[0].Body, m.tasks[1].Action = nil, webhook.RefreshResource
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		time.Sleep(time.Minute)
		if m.states()[webhook.TaskDead] != 2 || len(e.all()) != 0 || !strings.Contains(m.causeOf(1), "body_max_age") || !strings.Contains(m.causeOf(2), "refresh_resource") {
			t.Errorf("%v, %d arrivals, %q, %q", m.states(), len(e.all()), m.causeOf(1), m.causeOf(2))
		}
	})
}

// TestCircuit has many streams of a failed endpoint: the circuit bounds the attempts of all of
// them together, one probe at a time finds the recovery, and then everything arrives.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{answer: respond(500), latency: time.Second}
		d, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		accepted := map[string][]string{}
		for i := range 300 {
			stream := fmt.Sprint("jenkins r", i)
			accepted[stream] = append(accepted[stream], accept(t, m, "jenkins", fmt.Sprint("r", i)))
		}
		time.Sleep(time.Minute)
		if s := d.Status()[0]; s.Circuit == Closed || s.Cause == "" {
			t.Errorf("after a minute: %+v", s)
		}
		e.mu.Lock()
		e.most = 0
		e.mu.Unlock()
		before := len(e.all())
		time.Sleep(time.Hour)
		attempts := len(e.all()) - before
		if e.mu.Lock(); e.most > 1 {
			t.Errorf("%d probes at the same time", e.most)
		}
		e.mu.Unlock()
		if attempts < 50 || attempts > 130 { // one in 30 to 60 s
			t.Errorf("%d attempts in an hour", attempts)
		}
		e.set(nil)
		time.Sleep(10 * time.Minute)
		if s := d.Status()[0]; s.Circuit != Closed || s.Cause != "" || s.Delivered.IsZero() {
			t.Errorf("after the recovery: %+v", s)
		}
		if faults := check(accepted, e.all()); faults != nil {
			t.Error(faults)
		}
	})
}

// TestCircuitIsNeeded shows what the endpoint gets without it.
func TestCircuitIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{answer: respond(500), latency: time.Second}
		_, stop := run(t, m, func(d *Dispatcher) { d.timing.OpenBase, d.timing.OpenMax = 1, 1 }, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		for i := range 300 {
			accept(t, m, "jenkins", fmt.Sprint("r", i))
		}
		time.Sleep(time.Hour)
		if n := len(e.all()); n < 2000 {
			t.Errorf("%d attempts in an hour without the control", n)
		}
	})
}

func TestRetryAfterIsHonored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{answer: func(webhook.Task) Attempt { return Attempt{Status: 429, RetryAfter: 10 * time.Minute} }}
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		accept(t, m, "jenkins", "a")
		time.Sleep(time.Second)
		accept(t, m, "jenkins", "b") // another stream waits as well
		time.Sleep(9 * time.Minute)
		if n := len(e.all()); n != 1 {
			t.Errorf("%d attempts before the requested time", n)
		}
		e.set(func(webhook.Task) Attempt { return Attempt{Status: 503, RetryAfter: 1000 * time.Hour} })
		time.Sleep(2 * time.Minute)
		e.set(nil)
		time.Sleep(16 * time.Minute)
		if m.states()[webhook.TaskDone] != 2 {
			t.Errorf("an endpoint can stop its deliveries for longer than the bound: %v", m.states())
		}
	})
}

// TestSlowEndpointHasItsOwnShare has one endpoint that never responds beside another.
func TestSlowEndpointHasItsOwnShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, slow, fast := newMemory(), &target{latency: 10 * time.Hour}, &target{}
		_, stop := run(t, m, nil, Endpoint{Name: "slow", Send: slow.Send}, Endpoint{Name: "fast", Send: fast.Send})
		defer stop()
		for i := range 500 {
			accept(t, m, "slow", fmt.Sprint("r", i))
		}
		accept(t, m, "fast", "r")
		time.Sleep(10 * time.Second) // the store may drop a name: the next poll claims
		if len(fast.all()) != 1 {
			t.Error("the delivery to the other endpoint waits")
		}
		if slow.mu.Lock(); slow.most != maxPerEndpoint {
			t.Errorf("%d deliveries are in memory", slow.most)
		}
		slow.mu.Unlock()
	})
}

func TestMemoryIsBounded(t *testing.T) {
	endpoints := make([]Endpoint, 40)
	for i := range endpoints {
		endpoints[i] = Endpoint{Name: fmt.Sprint(i), Send: (&target{}).Send}
	}
	d, err := New(Config{Store: newMemory(), Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, w := range d.order {
		total += w.slots
	}
	if total > maxInTotal {
		t.Errorf("%d deliveries at the same time", total)
	}
}

func TestShutdown(t *testing.T) {
	for _, c := range []struct {
		name    string
		latency time.Duration
		state   webhook.TaskState
		within  time.Duration
	}{
		{"an attempt ends in time", 20 * time.Second, webhook.TaskDone, 25 * time.Second},
		{"an attempt is aborted", 10 * time.Minute, webhook.TaskPending, 31 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := newMemory(), &target{latency: c.latency}
				d, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
				defer stop()
				accept(t, m, "jenkins", "a")
				time.Sleep(time.Second)
				accept(t, m, "jenkins", "a") // must not be claimed any longer
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				d.Shutdown(ctx)
				if d := time.Since(began); d > c.within {
					t.Errorf("the shutdown took %s", d)
				}
				if m.tasks[0].state != c.state || m.tasks[1].Attempt != 0 {
					t.Errorf("states %v, attempts %d", m.states(), m.tasks[1].Attempt)
				}
				if c.state == webhook.TaskPending && m.tasks[0].notBefore.After(time.Now()) {
					t.Error("another instance has to wait for the task")
				}
			})
		})
	}
}

func TestLeaseIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{latency: 20 * time.Minute}
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		_, stopOther := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stopOther()
		accept(t, m, "jenkins", "a")
		time.Sleep(time.Hour)
		if n := len(e.all()); n != 1 || m.states()[webhook.TaskDone] != 1 {
			t.Errorf("%d arrivals, %v", n, m.states())
		}
	})
}

// overlap has an instance that loses the database, but not its endpoint, while another
// instance has both. It returns the arrivals.
func overlap(t *testing.T, deaf bool) []arrival {
	m, e := newMemory(), &target{latency: 4 * time.Minute, deaf: deaf}
	cut := &separated{memory: m}
	_, stop := run(t, cut, nil, Endpoint{Name: "jenkins", Send: e.Send})
	defer stop()
	accept(t, m, "jenkins", "a")
	time.Sleep(time.Second)
	accept(t, m, "jenkins", "a")
	cut.set(true)
	quick := &target{latency: time.Second}
	_, stopOther := run(t, m, nil, Endpoint{Name: "jenkins", Send: quick.Send})
	defer stopOther()
	time.Sleep(5 * time.Minute)
	cut.set(false)
	time.Sleep(5 * time.Minute)
	if m.states()[webhook.TaskDone] != 2 {
		t.Errorf("states %v", m.states())
	}
	return append(e.all(), quick.all()...)
}

// separated is a store that one instance cannot reach.
type separated struct {
	*memory
	mu  sync.Mutex
	cut bool
}

func (s *separated) set(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

func (s *separated) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return errUnavailable
	}
	return nil
}

func (s *separated) Claim(ctx context.Context, endpoint string, n int, lease time.Duration) ([]webhook.Task, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.memory.Claim(ctx, endpoint, n, lease)
}

func (s *separated) Extend(ctx context.Context, t webhook.Task, lease time.Duration) error {
	return errors.Join(s.err(), s.memory.Extend(ctx, t, lease))
}

func (s *separated) Done(ctx context.Context, t webhook.Task, r webhook.TaskResult) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.memory.Done(ctx, t, r)
}

func (s *separated) Retry(ctx context.Context, t webhook.Task, at time.Time, cause string) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.memory.Retry(ctx, t, at, cause)
}

func (s *separated) Release(ctx context.Context, t webhook.Task) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.memory.Release(ctx, t)
}

// TestAttemptEndsWithItsLease aborts an attempt whose lease cannot be extended, before
// another instance can claim the task.
func TestAttemptEndsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if n := len(overlap(t, false)); n != 2 {
			t.Errorf("%d arrivals of two deliveries", n)
		}
	})
}

// TestLeaseEndIsNeeded has an attempt that is not aborted: the first delivery arrives again.
func TestLeaseEndIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if n := len(overlap(t, true)); n != 3 {
			t.Errorf("%d arrivals of two deliveries without the control", n)
		}
	})
}

// TestUnknownOutcomes repeats calls whose outcome is unknown.
func TestUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := newMemory(), &target{latency: 100 * time.Millisecond}
		m.unknown = 0.3
		_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
		defer stop()
		accepted := map[string][]string{}
		for range 50 {
			accepted["jenkins r"] = append(accepted["jenkins r"], accept(t, m, "jenkins", "r"))
		}
		time.Sleep(4 * time.Hour)
		if faults := check(accepted, e.all()); faults != nil || m.states()[webhook.TaskDone] != 50 {
			t.Errorf("%v, %v", faults, m.states())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	send := (&target{}).Send
	for name, c := range map[string]Config{
		"no store":     {},
		"a name twice": {Store: newMemory(), Endpoints: []Endpoint{{Name: "a", Send: send}, {Name: "a", Send: send}}},
		"no name":      {Store: newMemory(), Endpoints: []Endpoint{{Send: send}}},
		"no sender":    {Store: newMemory(), Endpoints: []Endpoint{{Name: "a"}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestActionOfAnEndpoint: an endpoint carries out its own action and no other, and a task
// that needed no request changes nothing about its circuit.
func TestActionOfAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for _, repository := range []string{"a", "b", "c"} {
			accept(t, m, "warehouse", repository)
		}
		m.tasks[0].Action, m.tasks[1].Action = webhook.RefreshResource, webhook.RefreshResource
		send := func(_ context.Context, task webhook.Task) Attempt {
			if task.ID == 1 {
				return Attempt{Decided: Delivered}
			}
			return Attempt{Status: 403, Detail: "grant the service account patch"}
		}
		d, stop := run(t, m, nil, Endpoint{Name: "warehouse", Action: webhook.RefreshResource, RetryFor: time.Hour, Send: send})
		defer stop()
		time.Sleep(3 * time.Hour)
		states := m.states()
		if states[webhook.TaskDone] != 1 || states[webhook.TaskDead] != 2 || !strings.Contains(m.causeOf(2), "grant the service") || !strings.Contains(m.causeOf(3), `"refresh_resource", and not "forward"`) {
			t.Errorf("%v, %q, %q", states, m.causeOf(2), m.causeOf(3))
		}
		if st := d.Status()[0]; st.Circuit == Closed || !st.Delivered.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}
