package rego

import (
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// watchdogTicks is into how many parts a deadline is cut.
const watchdogTicks = 10

// watchdog cancels an evaluation after its deadline, measured in ticks of this
// process rather than by the clock on the wall: on a machine that gives the
// process no time, an evaluation of microseconds can take longer than any
// deadline, and a build would be refused for its neighbour's load. A process that
// gets no time makes no ticks either.
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
