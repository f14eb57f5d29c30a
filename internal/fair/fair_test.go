package fair

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func of(repository, step int) Subject {
	return Subject{"https://issuer.example", fmt.Sprint("repository-", repository), fmt.Sprint("step-", step)}
}

// acquire takes a slot that must be free at once.
func acquire(t *testing.T, l *Limiter, s Subject) Slot {
	t.Helper()
	slot, err := l.Acquire(t.Context(), s, 0)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	return slot
}

func wantOver(t *testing.T, err error, level Level, kind Kind) {
	t.Helper()
	over, ok := errors.AsType[*OverError](err)
	if !ok || over.Level != level || over.Kind != kind {
		t.Errorf("%v (%T), want %s of %s", err, err, kind, level)
	}
}

// TestLevels: each level has its limit, and what is refused costs nothing.
func TestLevels(t *testing.T) {
	l := New(Config{Step: Limit{Slots: 2, Bytes: 10}, Repository: Limit{Slots: 3, Bytes: 15}, Total: Limit{Slots: 4, Bytes: 20}})
	try := func(s Subject, bytes int64) error {
		_, err := l.Acquire(t.Context(), s, bytes)
		return err
	}
	first, err := l.Acquire(t.Context(), of(1, 1), 8)
	if err != nil {
		t.Fatal(err)
	}
	wantOver(t, try(of(1, 1), 3), Step, Bytes)
	wantOver(t, try(of(1, 2), 8), Repository, Bytes)
	acquire(t, l, of(1, 1))
	wantOver(t, try(of(1, 1), 0), Step, Slots)
	acquire(t, l, of(1, 2))
	wantOver(t, try(of(1, 2), 0), Repository, Slots)
	acquire(t, l, of(2, 1))
	wantOver(t, try(of(3, 1), 0), Total, Slots)
	first.ReleaseBytes()
	first.ReleaseBytes()
	if l.total.bytes != 0 || l.Held() != 4 {
		t.Errorf("%d bytes and %d slots are held", l.total.bytes, l.Held())
	}
	first.Release()
	first.Release()
	if l.Held() != 3 {
		t.Errorf("%d slots are held", l.Held())
	}
	if err := try(of(3, 1), 10); err != nil {
		t.Error(err)
	}
}

// TestNoLimits: the zero limiter delays no caller.
func TestNoLimits(t *testing.T) {
	l := New(Config{})
	for range 10 {
		slot := acquire(t, l, of(1, 1))
		slot.Release()
	}
	if steps, _ := l.Subjects(); steps != 0 {
		t.Errorf("%d steps are remembered", steps)
	}
}

// TestTurns: a repository with a thousand waiting acquisitions delays another's
// first by one turn, and so does a step inside its repository.
func TestTurns(t *testing.T) {
	for name, second := range map[string]Subject{"another repository": of(2, 1), "another step": of(1, 2)} {
		t.Run(name, func(t *testing.T) { turns(t, second, 1) })
	}
}

// TestTurnsAreNeeded: under one name for all, the second waits behind the first's thousand.
func TestTurnsAreNeeded(t *testing.T) { turns(t, of(1, 1), 1000) }

func turns(t *testing.T, second Subject, behind int) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Total: Limit{Slots: 1, Waiting: 5000}, Repository: Limit{Waiting: 5000}, Step: Limit{Waiting: 5000}, Wait: time.Hour, WaitForSlots: true})
		held := acquire(t, l, of(1, 1))
		var order []Subject
		var all sync.WaitGroup
		wait := func(s Subject) {
			all.Go(func() {
				slot, err := l.Acquire(t.Context(), s, 0)
				if err != nil {
					t.Error(err)
				}
				order = append(order, s)
				slot.Release()
			})
			synctest.Wait()
		}
		for range 1000 {
			wait(of(1, 1))
		}
		wait(second)
		held.Release()
		all.Wait()
		if second != of(1, 1) {
			for i, s := range order {
				if s == second && i > behind {
					t.Errorf("%d were served before it", i)
				}
			}
			return
		}
		if len(order) != behind+1 {
			t.Errorf("%d were served", len(order))
		}
	})
}

// TestFreeSlots: however many repositories take as many slots as they can get,
// the next one finds a free slot.
func TestFreeSlots(t *testing.T) {
	l := New(Config{Repository: Limit{Slots: 50}, Total: Limit{Slots: 100}, WaitForSlots: true})
	for repository := range 6 {
		n := 0
		for step := range 100 {
			if _, err := l.Acquire(t.Context(), of(repository, step), 0); err == nil {
				n++
			}
		}
		if n == 0 {
			t.Fatalf("repository %d got no slot", repository)
		}
	}
	if l.Held() >= 100 {
		t.Error("no slot is free")
	}
}

// TestFreeSlotsAreNeeded: with plain caps, two repositories hold all.
func TestFreeSlotsAreNeeded(t *testing.T) {
	l := New(Config{Repository: Limit{Slots: 50}, Total: Limit{Slots: 100}})
	for repository := range 2 {
		for step := range 50 {
			acquire(t, l, of(repository, step))
		}
	}
	_, err := l.Acquire(t.Context(), of(3, 1), 0)
	wantOver(t, err, Total, Slots)
}

// TestRateWaits: what is over the rate is served at the rate, and what has no
// prospect of a turn in time is refused at once.
func TestRateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Step: Limit{Rate: 100, Waiting: 1000}, Repository: Limit{Waiting: 1000}, Total: Limit{Waiting: 1000}, Wait: 3 * time.Second})
		began := time.Now()
		var mu sync.Mutex
		var served, refused int
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				slot, err := l.Acquire(t.Context(), of(1, 1), 0)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					served++
					slot.Release()
					return
				}
				wantOver(t, err, Step, Rate)
				refused++
				if time.Since(began) > 0 {
					t.Errorf("refused after %v", time.Since(began))
				}
			})
		}
		all.Wait()
		if took := time.Since(began); served != 399 || refused != 101 || took < 2900*time.Millisecond || took > 3100*time.Millisecond {
			t.Errorf("%d served and %d refused in %v", served, refused, took)
		}
		if l.Waiting() != 0 || l.Held() != 0 {
			t.Errorf("%d wait, %d held", l.Waiting(), l.Held())
		}
	})
}

// TestGreedyRepositoryShrinks: a repository that always holds all that it may gives up
// slots as they end, when others come, until all hold the same.
func TestGreedyRepositoryShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Repository: Limit{Waiting: 100}, Step: Limit{Waiting: 100}, Total: Limit{Slots: 16, Waiting: 1000}, Wait: time.Hour, WaitForSlots: true})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var held [3]atomic.Int64
		greedy := func(repository int) {
			for range 20 {
				all.Go(func() {
					for ctx.Err() == nil {
						slot, err := l.Acquire(ctx, of(repository, 1), 0)
						if err != nil {
							return
						}
						held[repository].Add(1)
						time.Sleep(time.Second)
						held[repository].Add(-1)
						slot.Release()
					}
				})
			}
		}
		greedy(0)
		time.Sleep(5500 * time.Millisecond)
		if alone := held[0].Load(); alone != 8 {
			t.Errorf("alone it holds %d slots of 16", alone)
		}
		greedy(1)
		greedy(2)
		time.Sleep(5250 * time.Millisecond) // between the moments at which slots end
		for i := range held {
			if n := held[i].Load(); n < 3 || n > 5 {
				t.Errorf("repository %d holds %d slots of 16", i, n)
			}
		}
		cancel()
		all.Wait()
	})
}

// TestTotalRateIsShared: a repository that waits for the rate of all with as many
// as may wait does not keep another from its share of it.
func TestTotalRateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Step: Limit{Waiting: 100}, Repository: Limit{Waiting: 300}, Total: Limit{Rate: 10, Waiting: 400}, Wait: 30 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for step := range 10 {
			for range 100 {
				all.Go(func() {
					if slot, err := l.Acquire(ctx, of(1, step), 0); err == nil {
						slot.Release()
					}
				})
			}
		}
		synctest.Wait()
		for range 5 {
			began := time.Now()
			slot, err := l.Acquire(ctx, of(2, 1), 0)
			if took := time.Since(began); err != nil || took > 210*time.Millisecond {
				t.Errorf("%v after %v", err, took)
			}
			slot.Release()
		}
		cancel()
		all.Wait()
	})
}

// TestQueueIsBounded: so many may wait, of each level.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Step: Limit{Waiting: 2}, Repository: Limit{Waiting: 3}, Total: Limit{Slots: 1, Waiting: 8}, Wait: time.Hour, WaitForSlots: true})
		held := acquire(t, l, of(9, 9))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for repository := range 5 {
			for step := range 4 {
				for range 10 {
					all.Go(func() {
						if slot, err := l.Acquire(ctx, of(repository, step), 0); err == nil {
							slot.Release()
						}
					})
				}
			}
			synctest.Wait()
			if waiting := l.Waiting(); waiting == 0 || waiting > 8 || repository == 0 && waiting != 3 {
				t.Errorf("with %d repositories %d wait", repository+1, waiting)
			}
		}
		cancel()
		all.Wait()
		held.Release()
		if l.Waiting() != 0 || l.Held() != 0 || l.queue.len != 0 {
			t.Errorf("%d wait, %d held", l.Waiting(), l.Held())
		}
	})
}

// TestTimeoutAndCancel: a waiter that gives up leaves nothing behind.
func TestTimeoutAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Step: Limit{Waiting: 5}, Repository: Limit{Waiting: 5}, Total: Limit{Slots: 1, Waiting: 5}, Wait: time.Second, WaitForSlots: true})
		held := acquire(t, l, of(1, 1))
		_, err := l.Acquire(t.Context(), of(2, 1), 0)
		wantOver(t, err, Total, Slots)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, of(2, 1), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		held.Release()
		if steps, repositories := l.Subjects(); steps != 0 || repositories != 0 {
			t.Errorf("%d steps of %d repositories are remembered", steps, repositories)
		}
	})
}

// TestForgets: subjects that are quiet are forgotten, and a rate is not renewed
// by being forgotten.
func TestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Step: Limit{Rate: 5}, Repository: Limit{Rate: 5}})
		kept := acquire(t, l, of(1, 0))
		for i := range 30_000 {
			slot := acquire(t, l, of(i+2, i))
			slot.Release()
		}
		for range 4 {
			slot := acquire(t, l, of(1, 1))
			slot.Release()
		}
		time.Sleep(forgetAfter / 20)
		_, err := l.Acquire(t.Context(), of(1, 1), 0)
		wantOver(t, err, Repository, Rate)
		time.Sleep(3 * forgetAfter)
		if steps, repositories := l.Subjects(); steps != 1 || repositories != 1 {
			t.Errorf("%d steps of %d repositories are remembered", steps, repositories)
		}
		kept.Release()
		time.Sleep(3 * forgetAfter)
		if steps, repositories := l.Subjects(); steps != 0 || repositories != 0 {
			t.Errorf("%d steps of %d repositories are remembered", steps, repositories)
		}
	})
}

// TestShrinks: the memory of subjects that are gone returns.
func TestShrinks(t *testing.T) {
	l := New(Config{Total: Limit{Slots: 100_000}})
	before := heap()
	slots := make([]Slot, 50_000)
	for i := range slots {
		slots[i] = acquire(t, l, of(i, i))
	}
	grown := heap()
	for i := range slots {
		slots[i].Release()
	}
	clear(slots)
	if after := heap(); after > before+(grown-before)/4 {
		t.Errorf("%d bytes before, %d with 50,000 subjects, %d without", before, grown, after)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestConcurrently: under any interleaving no more are held than may be, and
// no caller waits forever.
func TestConcurrently(t *testing.T) {
	l := New(Config{Step: Limit{Slots: 2, Waiting: 100}, Repository: Limit{Slots: 3, Waiting: 100}, Total: Limit{Slots: 5, Rate: 1_000_000, Waiting: 100}, Wait: time.Minute, WaitForSlots: true})
	var mu sync.Mutex
	held, most := map[Subject]int{}, 0
	var all sync.WaitGroup
	for i := range 12 {
		s := of(i%4, i%2)
		all.Go(func() {
			for range 1000 {
				slot, err := l.Acquire(t.Context(), s, 1)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held[s]++
				n := 0
				for _, m := range held {
					n += m
				}
				most = max(most, n)
				if held[s] > 2 {
					t.Errorf("%v holds %d", s, held[s])
				}
				mu.Unlock()
				runtime.Gosched()
				mu.Lock()
				held[s]--
				mu.Unlock()
				slot.Release()
			}
		})
	}
	all.Wait()
	if most > 5 || l.Held() != 0 || l.Waiting() != 0 || l.total.bytes != 0 {
		t.Errorf("%d were held at once; %d held, %d wait, %d bytes are left", most, l.Held(), l.Waiting(), l.total.bytes)
	}
}

func TestValidate(t *testing.T) {
	for text, c := range map[string]Config{
		"slots of one step (9) exceed those of repository (8)":              {Step: Limit{Slots: 9}, Repository: Limit{Slots: 8}},
		"bytes of one step (9) exceed those of all (8)":                     {Step: Limit{Bytes: 9}, Total: Limit{Bytes: 8}},
		"requests per second of one repository (9) exceed those of all (8)": {Repository: Limit{Rate: 9}, Total: Limit{Rate: 8}},
		"negative": {Total: Limit{Slots: -1}},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := (Config{Step: Limit{Slots: 1}, Repository: Limit{Slots: 1}, Total: Limit{Slots: 1}}).Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkAcquire(b *testing.B) {
	l := New(Config{Step: Limit{Slots: 500, Rate: 1 << 30}, Repository: Limit{Slots: 4000, Rate: 1 << 30}, Total: Limit{Slots: 10_000, Rate: 1 << 30}})
	b.ReportAllocs()
	for b.Loop() {
		slot, _ := l.Acquire(b.Context(), of(1, 1), 0)
		slot.Release()
	}
}
