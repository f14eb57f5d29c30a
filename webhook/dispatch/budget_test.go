package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// neverFinished has a delivery that claimers take and never finish, until the given time has
// passed, and another delivery behind it.
func neverFinished(t *testing.T, m *memory, d time.Duration) (first, second string) {
	t.Helper()
	first, second = accept(t, m, "jenkins", "r"), accept(t, m, "jenkins", "r")
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Minute) {
		if tasks, err := m.Claim(t.Context(), "jenkins", 1, time.Minute); err != nil || len(tasks) != 1 || tasks[0].Delivery != first {
			t.Fatalf("%v, %v", tasks, err)
		}
	}
	return first, second
}

// TestNeverFinishedDelivery: a delivery whose attempts never have a result is a dead letter
// once its time budget has ended, and the next of the stream is sent. Until then it is
// attempted.
func TestNeverFinishedDelivery(t *testing.T) {
	for name, c := range map[string]struct {
		elapsed time.Duration
		dead    bool
	}{"within the budget": {time.Hour, false}, "after it": {3 * time.Hour, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := newMemory(), &target{}
				first, second := neverFinished(t, m, c.elapsed)
				_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send, RetryFor: 2 * time.Hour})
				defer stop()
				time.Sleep(time.Minute)
				all := e.all()
				if all[len(all)-1].delivery != second || (all[0].delivery == first) == c.dead || (m.causeOf(1) == overdueCause) != c.dead {
					t.Errorf("%v, cause %q", all, m.causeOf(1))
				}
			})
		})
	}
}

// TestTimeOfTheLeaseBeforeIsNeeded: without it, such a delivery is claimed forever.
func TestTimeOfTheLeaseBeforeIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.withoutTimes = true
		neverFinished(t, m, 3*time.Hour)
		tasks, err := m.Claim(t.Context(), "jenkins", 1, time.Minute)
		if err != nil || len(tasks) != 1 || Overdue(tasks[0], 2*time.Hour, time.Now()) != "" {
			t.Errorf("%v, %v", tasks, err)
		}
	})
}

// TestClockOfTheInstanceJumps: the clock of this instance jumps forward by a day. While the
// clock of the database does not agree, a failed attempt ends no delivery, and is repeated
// after its usual pause.
func TestClockOfTheInstanceJumps(t *testing.T) {
	for name, c := range map[string]struct {
		skew time.Duration
		want webhook.TaskState
	}{"the instance's alone": {-25 * time.Hour, webhook.TaskDone}, "both": {0, webhook.TaskDead}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := newMemory(), &target{answer: func(x webhook.Task) Attempt {
					return Attempt{Status: map[bool]int{true: 503, false: 200}[x.Attempt < 4]}
				}}
				m.skew = c.skew
				accept(t, m, "jenkins", "r")
				m.set(func() { m.tasks[0].Received = time.Now().Add(-25 * time.Hour) })
				_, stop := run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send})
				defer stop()
				time.Sleep(5 * time.Minute)
				if m.states()[c.want] != 1 {
					t.Errorf("%v after %d attempts", m.states(), len(e.all()))
				}
				if all := e.all(); c.want == webhook.TaskDone && all[1].at.Equal(all[0].at) {
					t.Error("repeated without a pause")
				}
			})
		})
	}
}
