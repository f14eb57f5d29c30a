package frontend

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWorkers: goroutines are used again, no more wait than may, and close ends them: the
// bubble of synctest ends only without goroutines.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		w := &workers[int]{}
		run := func(n int) {
			time.Sleep(time.Duration(n) * time.Millisecond)
			calls.Add(1)
		}
		waiting := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.idle)
		}
		for range 10 {
			w.start(run, 1)
			time.Sleep(2 * time.Millisecond)
		}
		if n := waiting(); n != 1 || calls.Load() != 10 {
			t.Errorf("%d calls one after the other left %d goroutines", calls.Load(), n)
		}
		for range 2 * maxIdleWorkers {
			w.start(run, 1)
		}
		time.Sleep(2 * time.Millisecond)
		if n := waiting(); n != maxIdleWorkers || calls.Load() != 10+2*maxIdleWorkers {
			t.Errorf("%d calls at once left %d goroutines", calls.Load(), n)
		}
		time.Sleep(2*workerIdle + time.Millisecond)
		if n := waiting(); n != 0 {
			t.Errorf("%d goroutines wait without a call for them", n)
		}
		for range 3 {
			w.start(run, 1)
		}
		for range 40 { // one is used, and the others are not
			time.Sleep(workerIdle / 10)
			w.start(run, 1)
		}
		if n := waiting(); n > 1 {
			t.Errorf("%d goroutines wait, and one is used", n)
		}
		time.Sleep(2 * time.Millisecond)
		calls.Store(10 + 2*maxIdleWorkers)
		w.start(run, 5)
		w.close()
		w.start(run, 1)
		time.Sleep(6 * time.Millisecond)
		if n := waiting(); n != 0 || calls.Load() != 12+2*maxIdleWorkers {
			t.Errorf("%d calls, and %d goroutines wait after close", calls.Load(), n)
		}
	})
}
