package fair

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// widthConfig lets four acquisitions be unsettled at once.
var widthConfig = Config{Step: Limit{Waiting: 500}, Repository: Limit{Waiting: 500}, Total: Limit{Waiting: 1000}, Wait: time.Minute, Width: 4, SettleWithin: 20 * time.Millisecond}

// acquirers acquire for a repository until ctx ends, so many at once, and count the slots.
// Each one is unsettled for a time.
func acquirers(ctx context.Context, t *testing.T, all *sync.WaitGroup, l *Limiter, repository, n int, unsettled time.Duration) *atomic.Int64 {
	var acquired atomic.Int64
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				slot, err := l.Acquire(ctx, of(repository, 1), 0)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				acquired.Add(1)
				time.Sleep(unsettled)
				slot.Settle()
				slot.Release()
			}
		})
	}
	return &acquired
}

// TestWidth: alone, a repository has as many unsettled acquisitions as it likes. Beside
// another one it shares the width with it in turns, and a third one never waits for more
// than its own latest. Some seconds later it is alone again. Nothing is refused.
func TestWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(widthConfig)
		ctx, cancel := context.WithCancel(t.Context())
		second, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		perSecond := func(of ...*atomic.Int64) (list []int64) {
			for _, n := range of {
				list = append(list, -n.Load())
			}
			time.Sleep(time.Second)
			for i, n := range of {
				list[i] += n.Load()
			}
			return list
		}
		first := acquirers(ctx, t, &all, l, 1, 64, 10*time.Millisecond)
		if n := perSecond(first)[0]; n < 6300 {
			t.Errorf("alone it acquires %d a second", n)
		}
		other := acquirers(second, t, &all, l, 2, 8, 10*time.Millisecond)
		perSecond(first, other) // with what it began alone
		if n := perSecond(first, other); n[0] < 190 || n[0] > 210 || n[1] < 190 || n[1] > 210 {
			t.Errorf("two busy repositories acquire %d a second", n)
		}
		for range 10 {
			began := time.Now()
			slot := acquire(t, l, of(3, 1))
			if took := time.Since(began); took > 0 {
				t.Errorf("a repository without unsettled acquisitions has waited for %v", took)
			}
			slot.Release()
		}
		stop()
		time.Sleep(contendedFor + 100*time.Millisecond)
		if n := perSecond(first)[0]; n < 6300 {
			t.Errorf("alone again it acquires %d a second", n)
		}
		cancel()
		all.Wait()
		if l.unsettled.len != 0 || l.Held() != 0 || l.Waiting() != 0 {
			t.Errorf("%d are unsettled, %d held and %d wait", l.unsettled.len, l.Held(), l.Waiting())
		}
	})
}

// TestNarrow: while a repository acquires one after the other, busy ones share the narrow
// width. Busy repositories among themselves share the whole one.
func TestNarrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := widthConfig
		c.Narrow = 1
		l := New(c)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		first := acquirers(ctx, t, &all, l, 1, 8, 10*time.Millisecond)
		second := acquirers(ctx, t, &all, l, 2, 8, 10*time.Millisecond)
		time.Sleep(time.Second)
		count := func(during time.Duration, every func()) int64 {
			before := first.Load() + second.Load()
			for began := time.Now(); time.Since(began) < during; time.Sleep(10 * time.Millisecond) {
				every()
			}
			return first.Load() + second.Load() - before
		}
		if n := count(time.Second, func() {}); n < 390 || n > 410 {
			t.Errorf("two busy repositories acquire %d a second", n)
		}
		sparse := func() {
			slot := acquire(t, l, of(3, 1))
			slot.Release()
		}
		count(sparseFor, sparse)
		if n := count(time.Second, sparse); n < 190 || n > 210 {
			t.Errorf("beside a sparse one they acquire %d a second", n)
		}
		time.Sleep(sparseFor)
		if n := count(time.Second, func() {}); n < 390 || n > 410 {
			t.Errorf("without it they acquire %d a second", n)
		}
		cancel()
		all.Wait()
	})
}

// TestUnsettledExpires: acquisitions that take long do not keep those that wait from their
// turn.
func TestUnsettledExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(widthConfig)
		other := acquire(t, l, of(2, 1))
		defer other.Release()
		var slots []Slot
		for range 3 {
			slots = append(slots, acquire(t, l, of(1, 1)))
		}
		began := time.Now()
		slots = append(slots, acquire(t, l, of(1, 1)))
		if took := time.Since(began); took < widthConfig.SettleWithin || took > 2*widthConfig.SettleWithin {
			t.Errorf("the fifth acquisition has waited for %v", took)
		}
		for i := range slots {
			slots[i].Settle()
			slots[i].Settle()
			slots[i].Release()
		}
		if n := l.unsettled.len; n != 0 {
			t.Errorf("%d are unsettled", n)
		}
	})
}

// TestWidthOfCanceled: a canceled wait leaves nothing behind.
func TestWidthOfCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(widthConfig)
		for r := range 4 {
			acquire(t, l, of(r, 1))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, of(1, 1), 0); err == nil || l.Waiting() != 0 || l.unsettled.len != 4 {
			t.Errorf("%v; %d wait, %d are unsettled", err, l.Waiting(), l.unsettled.len)
		}
		if _, err := l.TryAcquire(of(1, 1), 0); err == nil {
			t.Error("an acquisition over the width was granted")
		} else {
			wantOver(t, err, Repository, Width)
		}
	})
}

// TestWidthNeedsAnEnd: without SettleWithin, acquisitions could block all others.
func TestWidthNeedsAnEnd(t *testing.T) {
	if (Config{Width: 1}).Validate() == nil {
		t.Error("a width without an end of unsettled acquisitions is accepted")
	}
	if (Config{Width: 1, Narrow: 2, SettleWithin: 1}).Validate() == nil {
		t.Error("a narrow width above the width is accepted")
	}
}
