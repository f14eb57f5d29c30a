package worker

import (
	"sync"
	"time"
)

// watch kills a process that does not answer in time.
//
// Both wall-clock time and the process's processor time count, so that a call is not
// blamed for a busy machine. After many times its limit the process is killed
// regardless of its processor time.
type watch struct {
	process *process
	grace   time.Duration
	lowered func() // is called after the process was lowered

	mu       sync.Mutex
	timer    *time.Timer
	stopped  bool
	task     *task
	began    time.Time
	cpu      time.Duration // the process's when the task began
	tick     uint64        // as last seen
	tickAt   time.Duration // the process's processor time then
	tickWall time.Time
}

// A process is killed regardless of its processor time after lastFactor times its
// limit and lastMore, and after lowFactor times that if it has the lower priority: on a
// busy machine, it gets little processor time.
const (
	lastFactor = 8
	lastMore   = 2 * time.Second
	lowFactor  = 4
)

func newWatch(p *process, grace time.Duration, lowered func(), t *task) *watch {
	w := &watch{process: p, grace: grace, lowered: lowered}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t)
	w.timer = time.AfterFunc(w.first(), w.check)
	return w
}

// begin starts the measurement of a task. The lock is held.
func (w *watch) begin(t *task) {
	w.task, w.began = t, time.Now()
	w.cpu = processorTimeOf(w.process.cmd.Process.Pid)
	w.tick, w.tickAt, w.tickWall = w.process.page.word(wordTick).Load(), w.cpu, w.began
}

// first is the time until the first check.
func (w *watch) first() time.Duration {
	d := w.task.Limit + w.grace
	if q := w.task.ProgressTimeout; q > 0 {
		d = min(d, q/2)
	}
	if w.mayLower() {
		d = min(d, lowerAfter)
	}
	return d
}

// mayLower reports whether the task makes its process low when it uses lowerAfter.
func (w *watch) mayLower() bool { return w.task.Class == Interactive && !w.process.low.Load() }

// restart measures the next task of a batch.
func (w *watch) restart(t *task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin(t)
	w.timer.Reset(w.first())
}

// stop ends the watching.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// last is the time after which a task is over a bound regardless of its processor time.
func (w *watch) last(bound time.Duration) time.Duration {
	if w.process.low.Load() {
		return lowFactor * (lastFactor*bound + lastMore)
	}
	return lastFactor*bound + lastMore
}

func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now, cpu := time.Now(), processorTimeOf(w.process.cmd.Process.Pid)
	bound := w.task.Limit + w.grace
	wall, used := now.Sub(w.began), cpu-w.cpu
	if used >= lowerAfter && w.mayLower() {
		w.process.lower()
		go w.lowered() // without the lock of the watch
	}
	over := wall >= bound && used >= bound/2 || wall >= w.last(bound)
	if q := w.task.ProgressTimeout; q > 0 && !over {
		if tick := w.process.page.word(wordTick).Load(); tick != w.tick {
			w.tick, w.tickAt, w.tickWall = tick, cpu, now
		}
		over = now.Sub(w.tickWall) >= q && cpu-w.tickAt >= q/2 || now.Sub(w.tickWall) >= w.last(q)
	}
	if over {
		w.stopped = true
		w.process.timeout.Store(true)
		w.process.kill()
		return
	}
	again := max(bound-wall, 20*time.Millisecond)
	if q := w.task.ProgressTimeout; q > 0 {
		again = min(again, max(q/4, 20*time.Millisecond))
	}
	if w.mayLower() {
		again = min(again, max(lowerAfter-used, time.Millisecond))
	}
	w.timer.Reset(again)
}
