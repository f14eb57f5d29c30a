package writer

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

// waiting is an event of a step that waits, and takes so many bytes.
func waiting(repository, step string, size int64) *waiter {
	return &waiter{event: &audit.Event{Kind: audit.KindDecision, Source: audit.Source{Repository: repository, Step: step}}, size: size}
}

// TestQueueShares: whatever one repository puts in, another finds room, and whatever
// one step does, so does another of its repository. A total bound holds for all.
func TestQueueShares(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"in bytes": 1000, "in events": 1} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(10_000, 1_000_000)
			fill := func(repository, step string) (n int64) {
				for {
					if full, _ := q.put(waiting(repository, step, size)); full != "" {
						return n
					}
					n++
				}
			}
			limit := min(10_000, 1_000_000/size)
			first, sibling := fill("a", "1"), fill("a", "2")
			if first > limit/8 || first < limit/15 || first+sibling > limit/6 || sibling < limit/40 {
				t.Errorf("one step put in %d, another of its repository %d", first, sibling)
			}
			for n := range 30 { // every one of them hostile
				for step := range 3 {
					fill(fmt.Sprint("hostile", n), fmt.Sprint(step))
				}
			}
			if last := fill("last", "1"); last < limit/guaranteedPart/3 {
				t.Errorf("the last repository put in %d", last)
			}
			if q.events > q.maxEvents || q.bytes > q.maxBytes {
				t.Errorf("%d events of %d bytes are in the queue", q.events, q.bytes)
			}
			// The server's own events and ends have no share.
			end := waiting("a", "1", size)
			end.event.Kind = audit.KindTunnelClosed
			for _, w := range []*waiter{end, waiting("", "", size)} {
				if full, _ := q.put(w); full != "" {
					t.Errorf("no room for %+v: %s", w.event, full)
				}
			}
		})
	}
}

// TestQueueTakesTurns: a repository with one event waits for one event of each
// other, not for all of them; within a step the order stays.
func TestQueueTakesTurns(t *testing.T) {
	t.Parallel()
	q := newQueue(10_000, 1<<30)
	var of []*waiter
	for n := range 100 {
		w := waiting("many", fmt.Sprint(n%2), 1)
		w.event.Status = n
		of = append(of, w)
		q.put(w)
	}
	q.put(waiting("one", "1", 1))
	q.dequeue(plain)
	if w := q.dequeue(plain); w.event.Source.Repository != "one" {
		t.Errorf("the second turn was %+v", w.event.Source)
	}
	latest := map[string]int{"0": 0, "1": -1}
	for w := q.dequeue(plain); w != nil; w = q.dequeue(plain) {
		if w.event.Status <= latest[w.event.Source.Step] {
			t.Errorf("%d came after %d", w.event.Status, latest[w.event.Source.Step])
		}
		latest[w.event.Source.Step] = w.event.Status
	}
	if latest["0"] != 98 || latest["1"] != 99 || q.len() != 0 || q.bytes != 0 || len(q.repositories) != 0 || q.turns[plain].len() != 0 {
		t.Errorf("%v, %+v is left of %d", latest, q, len(of))
	}
}

// TestQueueWaits: a caller whose share is used up waits until an event was dequeued.
func TestQueueWaits(t *testing.T) {
	t.Parallel()
	q := newQueue(8, 1<<30)
	q.put(waiting("a", "1", 1))
	full, room := q.put(waiting("a", "1", 1))
	if full != "the step's share of the queue" {
		t.Fatalf("%q is full", full)
	}
	var wg sync.WaitGroup
	wg.Go(func() { <-room })
	q.dequeue(plain)
	q.announce()
	wg.Wait()
	if full, _ := q.put(waiting("a", "1", 1)); full != "" {
		t.Errorf("still full: %s", full)
	}
}

// flooding are events of one step, each as long as an event can be.
func flooding(n int) *audit.Event {
	e := audittest.Decision("deny", n)
	e.Source = audit.Source{Repository: "flood", Step: "1"}
	e.RepositoryUUID = "99999999-0000-4000-8000-000000000000"
	e.Input = fmt.Appendf(nil, `{"path":"%s"}`, strings.Repeat("x", 7000))
	return e
}

// TestJournalShares is the attack: one step writes until nothing more is accepted. Its
// share of the journal is used up then; another repository's events, an end and the
// server's own are recorded all the same, and afterwards all of it is in the database.
func TestJournalShares(t *testing.T) {
	t.Parallel()
	server, db, l := spooling(t, func(c *Config) { c.JournalBytes = 1 << 20 })
	audittest.Eventually(t, "the outage is known", func() bool { return l.currentOutage() != nil })
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = l.Record(t.Context(), flooding(n))
	}
	if !errors.Is(err, ErrShare) || !errors.Is(err, ErrUnavailable) || l.Stats().JournalFull {
		t.Fatalf("after %d events: %v, %+v", n, err, l.Stats())
	}
	used := l.Stats().JournalBytes
	if used > l.config.JournalBytes/6 || used < l.config.JournalBytes/20 {
		t.Errorf("one step has used %d bytes of %d", used, l.config.JournalBytes)
	}
	flooder := audit.Source{Repository: "flood", Step: "1"}
	if err := l.AvailableTo(flooder); !errors.Is(err, ErrShare) {
		t.Errorf("to the step that floods: %v", err)
	}
	other := audittest.Decision("allow", n)
	other.Source = audit.Source{Repository: "other", Step: "2"}
	if err := l.AvailableTo(other.Source); err != nil {
		t.Errorf("to another repository: %v", err)
	}
	end := &audit.Event{Time: time.Now(), Kind: audit.KindTunnelClosed, DecisionID: audittest.NewUUID(time.Now()), Source: flooder}
	for _, e := range []*audit.Event{other, end, {Time: time.Now(), Kind: audit.KindAdmin}} {
		if err := l.Record(t.Context(), e); err != nil {
			t.Errorf("%s of %+v: %v", e.Kind, e.Source, err)
		}
	}
	if s := l.Stats(); s.OverShare != 1 {
		t.Errorf("%d events were over a share", s.OverShare)
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
	audittest.Record(t, l, flooding(n))
	audittest.Close(t, l)
	conn := audittest.Connect(t, db.URL(""))
	audittest.Sound(t, conn)
	if got := audittest.QueryValue[int](t, conn, "SELECT count(*) FROM audit.events WHERE repository_uuid = '99999999-0000-4000-8000-000000000000'"); got != n {
		t.Errorf("%d events of the flood are in the database, not %d", got, n)
	}
}

// TestJournalSharesAreNeeded: without shares one step fills the journal, and no event is
// recorded any more.
func TestJournalSharesAreNeeded(t *testing.T) {
	t.Parallel()
	server, _, l := spooling(t, func(c *Config) { c.JournalBytes, c.Deadline = 256<<10, 3*time.Second })
	audittest.Eventually(t, "the outage is known", func() bool { return l.currentOutage() != nil })
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		e := flooding(n)
		e.Source = audit.Source{} // as if there were none
		err = l.Record(t.Context(), e)
	}
	other := audittest.Decision("allow", 1)
	other.Source = audit.Source{Repository: "other", Step: "2"}
	if full, err := l.Stats().JournalFull, l.Record(t.Context(), other); !full || !errors.Is(err, ErrUnavailable) {
		t.Errorf("the journal is full: %t; another repository's event: %v: the test cannot fail", full, err)
	}
	server.Restart(t)
	audittest.Eventually(t, "back", func() bool { return l.outage.Load() == nil })
}

// TestQueueBytes: events that wait for the database take no more memory than the
// queue may have, whatever their number.
func TestQueueBytes(t *testing.T) {
	t.Parallel()
	server, _, l := frozen(t, func(c *Config) { c.QueueBytes, c.Deadline = 1<<20, 300*time.Millisecond })
	server.Kill(t)
	audittest.Eventually(t, "the outage is known", func() bool { _ = l.Record(t.Context(), audittest.Decision("deny", 1)); return l.currentOutage() != nil })
	for n := range 1000 {
		e := flooding(n)
		e.Source.Repository = fmt.Sprint(n % 50)
		if err := l.Record(t.Context(), e); err == nil {
			t.Fatal("recorded without a database")
		}
	}
	if all, _, _ := l.queue.waiting(audit.Source{}); all > l.config.QueueBytes || all < l.config.QueueBytes/2 || l.Stats().Rejected == 0 {
		t.Errorf("%d bytes wait, %d events were rejected", all, l.Stats().Rejected)
	}
	server.Restart(t)
	audittest.Eventually(t, "written", func() bool { return l.Stats().Waiting == 0 && l.Available() == nil })
}

// BenchmarkQueue is what an event costs in the queue, with one and with many steps.
func BenchmarkQueue(b *testing.B) {
	for _, steps := range []int{1, 1000} {
		b.Run(fmt.Sprint("steps=", steps), func(b *testing.B) {
			q := newQueue(8192, 32<<20)
			list := make([]*waiter, steps)
			for i := range list {
				list[i] = waiting(fmt.Sprint(i%100), fmt.Sprint(i), 3000)
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, w := range list {
					q.put(w)
				}
				for range list {
					q.dequeue(plain)
				}
			}
		})
	}
}

// TestGroupLimit: a group takes half of many waiting events, and all of few.
func TestGroupLimit(t *testing.T) {
	for waiting, want := range map[int]int{0: groupRows, 1: groupRows, 2*splitRows - 1: groupRows, 2 * splitRows: splitRows, 511: 256, 512: 256, 2 * groupRows: groupRows, 9 * groupRows: groupRows} {
		if got := groupLimit(waiting); got != want {
			t.Errorf("of %d waiting events a group takes %d, not %d", waiting, got, want)
		}
	}
}
