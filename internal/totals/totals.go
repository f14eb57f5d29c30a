// Package totals records how many attempts were refused without an event of their
// own: no credential, an unreadable head, over a rate or a limit. Such attempts cost
// a stranger nothing, so that one event each would let anybody fill the log; an event
// with their number, of kind unrecorded_totals, is as much evidence of them as the
// log has.
package totals

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// Intervals of the events. A crash loses the counts of one Interval at most.
const (
	Interval     = 10 * time.Minute
	ZeroInterval = time.Hour // an event with 0 is recorded this often
)

// Config is what totals are made of.
type Config struct {
	// Record makes an event durable, or returns an error; the event may be recorded
	// even so, once the database is available again.
	Record func(context.Context, *audit.Event) error
	// Rejected returns how many events the audit log itself has rejected since its
	// start: they are counted and recorded nowhere else. Nil: none.
	Rejected func() int64
	Interval time.Duration // 0: [Interval]
	// ZeroInterval is how often 0 is recorded; 0: [ZeroInterval].
	ZeroInterval time.Duration
	Log          *slog.Logger     // nil: none
	Now          func() time.Time // nil: time.Now
}

// Totals counts refusals. Its methods are safe for concurrent use.
type Totals struct {
	config Config

	mu       sync.Mutex
	from     time.Time // that the counts are from
	counts   map[policy.Reason]int64
	rejected int64 // of Rejected, as the latest event has it
}

// New begins to count.
func New(c Config) *Totals {
	c.Interval = cmp.Or(c.Interval, Interval)
	c.ZeroInterval = cmp.Or(c.ZeroInterval, ZeroInterval)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rejected == nil {
		c.Rejected = func() int64 { return 0 }
	}
	return &Totals{config: c, from: c.Now(), counts: make(map[policy.Reason]int64)}
}

// Add counts a refusal that gets no event. It is quick and never waits.
func (t *Totals) Add(reason policy.Reason) {
	t.mu.Lock()
	t.counts[reason]++
	t.mu.Unlock()
}

// Run records the totals every interval until ctx ends. [Totals.Flush] records what
// is left then.
func (t *Totals) Run(ctx context.Context) {
	tick := time.NewTicker(t.config.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.record(ctx, false)
		case <-ctx.Done():
			return
		}
	}
}

// Flush records the totals since the latest event, at the end of a process, even if
// they are 0.
func (t *Totals) Flush(ctx context.Context) { t.record(ctx, true) }

// RejectedEvents is the name under which events that the log rejected are counted.
const RejectedEvents = "event_rejected"

// record makes one event. If that fails, the next event has the same beginning and
// includes these counts, so that of several events of a writer with one beginning
// the last is right, whichever of them came to be recorded.
func (t *Totals) record(ctx context.Context, last bool) {
	now, rejected := t.config.Now(), t.config.Rejected()
	t.mu.Lock()
	counts, from := maps.Clone(t.counts), t.from
	before := t.rejected
	t.mu.Unlock()

	e := &audit.Event{Time: now, Kind: audit.KindUnrecordedTotals}
	total := max(rejected-before, 0)
	for _, n := range counts {
		total += n
	}
	if total == 0 && !last && now.Sub(from) < t.config.ZeroInterval {
		return
	}
	add := func(name, value string) {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value})
	}
	add("from", from.UTC().Format(time.RFC3339Nano))
	add("to", now.UTC().Format(time.RFC3339Nano))
	add("total", strconv.FormatInt(total, 10))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		add(string(reason), strconv.FormatInt(counts[reason], 10))
	}
	if rejected > before {
		add(RejectedEvents, strconv.FormatInt(rejected-before, 10))
	}
	e.Message = strconv.FormatInt(total, 10) + " attempts were refused without an event of their own"
	if err := t.config.Record(ctx, e); err != nil {
		t.config.Log.Warn("totals of unrecorded refusals not recorded yet", "error", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from, t.rejected = now, rejected
	for reason, n := range counts {
		if t.counts[reason] -= n; t.counts[reason] == 0 {
			delete(t.counts, reason)
		}
	}
}
