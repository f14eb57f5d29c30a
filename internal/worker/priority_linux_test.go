package worker

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPriorities: heavy, background and long calls are executed at the lower priority, and
// light and urgent ones never are, whatever their process executed before.
func TestPriorities(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2, 6} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			p := pool(t, Config{Workers: workers})
			ask(t, p, "heavy", "spin 15ms") // that it is heavy is known
			for i := range 3 {
				for _, c := range []struct {
					share string
					class Class
					low   bool
				}{
					{"light", Interactive, false}, {"heavy", Interactive, true}, {fmt.Sprint("light", i), Interactive, false},
					{"light", Background, true}, {"light", Urgent, false}, {"light", Long, true}, {"heavy", Interactive, true},
				} {
					one := call(c.share, "pid")
					one.Class = c.class
					reply, err := p.Do(t.Context(), one)
					if err != nil {
						t.Fatal(err)
					}
					want := priority()
					if c.low {
						want = min(want+lowNice, 19)
					}
					if got := niceness(t, string(reply)); got != want {
						t.Errorf("a call of %s in class %d was executed at niceness %d, want %d", c.share, c.class, got, want)
					}
				}
			}
		})
	}
}

// TestLowerPriorityIsNeeded: a process counts as lowered before its priority was lowered, as
// if lower did nothing. What TestPriorities compares then shows a long call at the server's
// priority, and a light call after it in the same process.
func TestLowerPriorityIsNeeded(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	first := ask(t, p, "slow", "pid")
	p.mu.Lock()
	process := p.slots[0].alive
	p.mu.Unlock()
	process.low.Store(true)
	one := call("slow", "pid")
	one.Class = Long
	reply, err := p.Do(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if got := niceness(t, string(reply)); string(reply) != first || got != priority() {
		t.Errorf("the long call was executed by process %s at niceness %d", reply, got)
	}
	process.low.Store(false)
	if light := ask(t, p, "light", "pid"); light != first {
		t.Errorf("the light call was executed by process %s, and not by %s, which executed a long one", light, first)
	}
	process.lower()
	if light := ask(t, p, "light", "pid"); light == first {
		t.Error("a light call is executed by a process of the lower priority")
	}
}

// TestSlowCallIsLowered: the first slow call of a share gives its process the lower
// priority while it is executed.
func TestSlowCallIsLowered(t *testing.T) {
	t.Parallel()
	p := pool(t, Config{Workers: 1})
	pid := ask(t, p, "slow", "pid")
	done := make(chan error, 1)
	go func() {
		one := call("slow", "spin 10s")
		one.Limit = time.Minute
		_, err := p.Do(t.Context(), one)
		done <- err
	}()
	for want := min(priority()+lowNice, 19); niceness(t, pid) != want; {
		select {
		case err := <-done:
			t.Fatalf("the call ended at its process's first priority: %v", err)
		default:
		}
	}
	p.Close()
	<-done
}

// niceness is that of a process's first thread.
func niceness(t *testing.T, pid string) int {
	t.Helper()
	id, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.Getpriority(unix.PRIO_PROCESS, id)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - n
}
