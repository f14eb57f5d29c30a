package rego

import (
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// watchdogTicks is the number of ticks of a deadline.
const watchdogTicks = 10

// watchdog cancels an evaluation after its deadline, measured in ticks of this process and
// not by the wall clock. On a machine that gives the process no processor time, an
// evaluation of microseconds could exceed any deadline, and a build would be refused
// because of another load. A process without processor time makes no ticks either.
type watchdog struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	left    int
	step    time.Duration
	cancel  topdown.Cancel
}

func newWatchdog(deadline time.Duration, cancel topdown.Cancel) *watchdog {
	w := &watchdog{left: watchdogTicks, step: max(deadline/watchdogTicks, 100*time.Microsecond), cancel: cancel}
	w.mu.Lock()
	w.timer = time.AfterFunc(w.step, w.tick)
	w.mu.Unlock()
	return w
}

func (w *watchdog) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if w.left--; w.left <= 0 {
		w.cancel.Cancel()
		return
	}
	w.timer.Reset(w.step)
}

func (w *watchdog) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.timer.Stop()
}
