package e2e

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A fault is done to a running campaign, under load, and made good again.
type fault struct {
	name  string
	kills int // processes, or whole servers, that are ended by SIGKILL
	short int // how often it is in a short campaign
	do    func(*campaign)
}

// faults are all that is done. Where a fault has a length, it comes from the
// campaign's numbers.
var faults = []fault{
	{"kill -9 of the proxy", 1, 2, func(c *campaign) {
		c.killProxy()
		c.startProxy()
	}},
	{"kill -9 of PostgreSQL", 1, 1, func(c *campaign) {
		c.postgres.Kill(c.t)
		c.pause(0, 300)
		c.postgres.Restart(c.t)
	}},
	{"kill -9 of one of PostgreSQL's processes", 1, 3, func(c *campaign) { c.killBackend() }},
	{"kill -9 of the proxy while PostgreSQL is down", 2, 1, func(c *campaign) {
		c.postgres.Kill(c.t)
		c.pause(0, 900) // less and more than it takes to call it an outage
		c.killProxy()
		c.postgres.Restart(c.t)
		c.startProxy()
	}},
	{"kill -9 of the proxy while it writes its journal to PostgreSQL", 2, 1, func(c *campaign) {
		c.postgres.Kill(c.t)
		c.pause(700, 900)
		made := c.relay.arm(cut{committed: c.random.IntN(2) == 0, fresh: true, then: c.kill})
		c.postgres.Restart(c.t)
		c.wait(made)
		c.awaitProxyEnd()
		c.startProxy()
	}},
	{"kill -9 of the proxy between COMMIT and its answer", 1, 1, func(c *campaign) {
		c.wait(c.relay.arm(cut{committed: true, then: c.kill}))
		c.awaitProxyEnd()
		c.startProxy()
	}},
	{"kill -9 of the proxy while PostgreSQL is stopped", 1, 1, func(c *campaign) { c.killWhileStopped() }},
	{"SIGSTOP and SIGCONT of PostgreSQL", 0, 1, func(c *campaign) {
		c.postgres.Freeze(c.t)
		if c.long && c.random.IntN(8) == 0 {
			c.pause(6000, 7000) // longer than a write is waited for
		} else {
			c.pause(50, 900)
		}
		c.postgres.Thaw(c.t)
	}},
	{"disk full", 0, 1, func(c *campaign) { c.fillDisk() }},
	{"read-only", 0, 1, func(c *campaign) {
		c.setReadOnly("on")
		c.pause(50, 800)
		c.setReadOnly("off")
	}},
	{"connection cut, COMMIT done and its answer lost", 0, 2, func(c *campaign) { c.wait(c.relay.arm(cut{committed: true})) }},
	{"connection cut, COMMIT not done", 0, 2, func(c *campaign) { c.wait(c.relay.arm(cut{})) }},
}

// killBackend ends the audit log's own process in PostgreSQL, or its WAL
// writer. PostgreSQL takes that for a crash: it ends all others in the same way,
// forgets its memory and recovers from its log on disk.
func (c *campaign) killBackend() {
	title := []string{"sallyport_writer", "walwriter"}[c.random.IntN(2)]
	var all []int
	eventually(c.t, "PostgreSQL has a process "+title, func() bool {
		all = c.postgres.Processes(title)
		return len(all) > 0
	})
	if err := syscall.Kill(all[c.random.IntN(len(all))], syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		c.t.Fatal(err)
	}
}

// killWhileStopped distinguishes recording that is waited for from recording that is
// not: PostgreSQL never receives what the proxy had not sent when it was killed.
func (c *campaign) killWhileStopped() {
	c.postgres.Freeze(c.t)
	before := c.traffic.attempts.Load()
	c.pause(250, 500)
	eventually(c.t, "attempts are made", func() bool { return c.traffic.attempts.Load() >= before+20 })
	c.killProxy()
	c.postgres.Thaw(c.t)
	c.startProxy()
}

// setReadOnly refuses every write with an error, in sessions that are open too.
// PostgreSQL may still be recovering from the fault before.
func (c *campaign) setReadOnly(value string) {
	c.t.Helper()
	eventually(c.t, "PostgreSQL takes a setting", func() bool {
		conn, err := pgx.Connect(c.t.Context(), c.w.database.admin)
		if err != nil {
			return false
		}
		defer conn.Close(c.t.Context())
		for _, sql := range []string{
			"SET default_transaction_read_only = off", "ALTER SYSTEM SET default_transaction_read_only = " + value, "SELECT pg_reload_conf()",
		} {
			if _, err := conn.Exec(c.t.Context(), sql); err != nil {
				return false
			}
		}
		return true
	})
}

// plan is a campaign's order of faults: those of a short one, as often as it takes
// for so many kills. The same numbers give the same plan.
func plan(random *rand.Rand, kills int) []fault {
	var all []fault
	have := 0
	for round := 0; round == 0 || have < kills; round++ {
		for _, f := range faults {
			for range f.short {
				all = append(all, f)
				have += f.kills
			}
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// TestCrashPlan: the same seed does the same, and every kind of fault is in it.
func TestCrashPlan(t *testing.T) {
	t.Parallel()
	names := func(seed uint64, kills int) []string {
		var list []string
		for _, f := range plan(rand.New(rand.NewPCG(seed, 0)), kills) {
			list = append(list, f.name)
		}
		return list
	}
	for _, kills := range []int{1, 100} {
		one := names(7, kills)
		if !slices.Equal(one, names(7, kills)) {
			t.Error("the same seed gives another plan")
		}
		if slices.Equal(one, names(8, kills)) {
			t.Error("another seed gives the same plan")
		}
		for _, f := range faults {
			if !slices.Contains(one, f.name) {
				t.Errorf("%d kills: there is no %s", kills, f.name)
			}
		}
	}
}

// pause lets traffic meet a fault for so many milliseconds.
func (c *campaign) pause(least, most int) {
	timer := time.NewTimer(time.Duration(least+c.random.IntN(most-least)) * time.Millisecond)
	defer timer.Stop()
	<-timer.C
}

// wait waits for a cut.
func (c *campaign) wait(made <-chan struct{}) {
	c.t.Helper()
	select {
	case <-made:
	case <-time.After(patience):
		c.t.Fatal("nothing was committed that could be cut off")
	}
}

func (c *campaign) kill() { _ = c.w.cmd.Process.Signal(syscall.SIGKILL) }

func (c *campaign) killProxy() {
	c.kill()
	c.awaitProxyEnd()
}

func (c *campaign) awaitProxyEnd() { c.w.await(-1) }

// startProxy does what a supervisor does: PostgreSQL may still be recovering from
// the fault before, and a proxy that finds no database ends.
func (c *campaign) startProxy() {
	c.t.Helper()
	begun := time.Now()
	eventually(c.t, "the proxy is ready", func() bool {
		if !c.w.running() {
			if time.Since(begun) > patience {
				return false
			}
			c.w.server = launch(c.t, c.w.program, c.w.config, c.w.admin, c.w.env...)
		}
		status, _ := c.w.readyz()
		return status == http.StatusOK
	})
}
