package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Bounds of lateness, which is the signed time of the first checkpoint that covers an
// event minus the event's own time. An event is sealed within seconds, unless it was
// in a journal, its writer was stuck behind a gap, or the event was backdated.
const (
	// DefaultMaxLateness is twice the hour to which old checkpoints are thinned out,
	// so that thinning makes no event late.
	DefaultMaxLateness = 2 * time.Hour
	// MaxClockSkew is how far the clock of a writer may be ahead of the signer's.
	MaxClockSkew = 5 * time.Minute
)

// LateEvents are events of one writer with the same first covering checkpoint. Either
// all are late, or all are dated after that checkpoint.
type LateEvents struct {
	Writer                      string
	FirstSequence, LastSequence int64
	FirstLeaf, LastLeaf         int64 // -1: not sealed
	Count                       int64
	Decisions                   int64 // of these
	Oldest, Newest              time.Time
	Size                        int64     // of the checkpoint; 0: none covers them yet
	Sealed                      time.Time // when it was signed; of unsealed events that of the latest checkpoint
	Journal                     int64     // the leaf of the journal_replayed event that explains them; -1: none does
}

// Lateness returns how late the oldest event is; a negative value is how far the
// newest is dated after the checkpoint. For unsealed events it is a lower bound.
func (l LateEvents) Lateness() time.Duration {
	if late := l.Sealed.Sub(l.Oldest); late > 0 {
		return late
	}
	return l.Sealed.Sub(l.Newest)
}

// String is one line for people.
func (l LateEvents) String() string {
	numbers := fmt.Sprintf("event %d", l.FirstSequence)
	if l.Count > 1 {
		numbers = fmt.Sprintf("%d events from %d to %d", l.Count, l.FirstSequence, l.LastSequence)
	}
	dated := l.Oldest.Format(time.RFC3339)
	if !l.Newest.Equal(l.Oldest) {
		dated += " to " + l.Newest.Format(time.RFC3339)
	}
	sealed := "not sealed by the checkpoint signed " + l.Sealed.UTC().Format(time.RFC3339)
	if l.Size > 0 {
		sealed = fmt.Sprintf("first sealed by the checkpoint of size %d, signed %s", l.Size, l.Sealed.UTC().Format(time.RFC3339))
	}
	by := "late by " + FormatDuration(l.Lateness())
	if l.Lateness() < 0 {
		by = "ahead by " + FormatDuration(-l.Lateness())
	}
	text := fmt.Sprintf("%s of writer %s, dated %s, %s: %s", numbers, Text(l.Writer, capName), dated, sealed, by)
	if l.Journal >= 0 {
		text += fmt.Sprintf("; leaf %d reports that a journal was replayed", l.Journal)
	}
	return text
}

// Lateness is the result of measuring the lateness of a log's events.
type Lateness struct {
	Bound     time.Duration
	Count     int64         // sealed later than the bound after their own time, or that old and not sealed
	Explained int64         // of these, by an event that reports the replay of the journal with them
	Max       time.Duration // the largest lateness
	Events    []LateEvents  // the first maxLateEvents, by leaf; unsealed ones last
	Ahead     int64         // dated more than MaxClockSkew after the checkpoint that first covers them
	MaxAhead  time.Duration
	AheadOf   []LateEvents
}

// maxLateEvents bounds what is listed. All are counted.
const maxLateEvents = 10_000

// A LatenessTracker measures the lateness of events while a log is read in its order:
// Add for each event, Checkpoint after the last leaf that it covers. Times count in
// whole minutes, so that its memory follows the minutes between two checkpoints and
// not the events. It is not safe for concurrent use.
type LatenessTracker struct {
	bound    int64 // minutes
	pending  map[lateMinute]*LateEvents
	latest   *LateEvents
	at       lateMinute
	journals map[string][]replayedJournal // by writer
	replayed int
	found    Lateness
}

type lateMinute struct {
	writer string
	minute int64
}

// replayedJournal is the content of a journal_replayed event.
type replayedJournal struct {
	from, to time.Time
	leaf     int64
}

// NewLatenessTracker returns a tracker with a bound in whole minutes; 0 is
// [DefaultMaxLateness].
func NewLatenessTracker(bound time.Duration) *LatenessTracker {
	bound = cmp.Or(bound, DefaultMaxLateness)
	return &LatenessTracker{
		bound: int64(bound / time.Minute), pending: make(map[lateMinute]*LateEvents), journals: make(map[string][]replayedJournal),
		found: Lateness{Bound: bound},
	}
}

func minuteOf(t time.Time) int64 { return floorDiv(t.Unix(), 60) }

func floorDiv(a, b int64) int64 {
	if a < 0 && a%b != 0 {
		return a/b - 1
	}
	return a / b
}

// Add adds a sealed event with its own time.
func (l *LatenessTracker) Add(leaf int64, writer string, sequence int64, at time.Time, decision bool) {
	minute := minuteOf(at)
	if l.latest == nil || l.at.minute != minute || l.at.writer != writer {
		l.at = lateMinute{writer, minute}
		if l.latest = l.pending[l.at]; l.latest == nil {
			l.latest = &LateEvents{
				Writer: writer, FirstSequence: sequence, LastSequence: sequence, FirstLeaf: leaf, LastLeaf: leaf, Oldest: at, Newest: at, Journal: -1,
			}
			l.pending[l.at] = l.latest
		}
	}
	l.latest.include(LateEvents{FirstSequence: sequence, LastSequence: sequence, FirstLeaf: leaf, LastLeaf: leaf, Oldest: at, Newest: at, Count: 1})
	if decision {
		l.latest.Decisions++
	}
}

func (l *LateEvents) include(o LateEvents) {
	l.FirstSequence, l.LastSequence = min(l.FirstSequence, o.FirstSequence), max(l.LastSequence, o.LastSequence)
	l.FirstLeaf, l.LastLeaf = min(l.FirstLeaf, o.FirstLeaf), max(l.LastLeaf, o.LastLeaf)
	l.Count += o.Count
	l.Decisions += o.Decisions
	if o.Oldest.Before(l.Oldest) {
		l.Oldest = o.Oldest
	}
	if o.Newest.After(l.Newest) {
		l.Newest = o.Newest
	}
}

// Checkpoint adds the checkpoint that covers the events since the previous one. It
// reports whether the list of late or ahead events names this checkpoint.
func (l *LatenessTracker) Checkpoint(size int64, signed time.Time) bool {
	before := len(l.found.Events) + len(l.found.AheadOf)
	minute := minuteOf(signed)
	late, ahead := map[string]*LateEvents{}, map[string]*LateEvents{}
	for key, events := range l.pending {
		switch {
		case minute-key.minute > l.bound:
			gatherLate(late, events)
		case key.minute-minute > int64(MaxClockSkew/time.Minute):
			gatherLate(ahead, events)
		}
	}
	clear(l.pending)
	l.latest = nil
	for _, events := range inLeafOrder(late) {
		events.Size, events.Sealed = size, signed
		l.late(events)
	}
	for _, events := range inLeafOrder(ahead) {
		events.Size, events.Sealed = size, signed
		l.found.Ahead += events.Count
		l.found.MaxAhead = max(l.found.MaxAhead, -events.Lateness())
		if len(l.found.AheadOf) < maxLateEvents {
			l.found.AheadOf = append(l.found.AheadOf, *events)
		}
	}
	return len(l.found.Events)+len(l.found.AheadOf) > before
}

func gatherLate(by map[string]*LateEvents, events *LateEvents) {
	if before := by[events.Writer]; before != nil {
		before.include(*events)
		return
	}
	by[events.Writer] = events
}

func inLeafOrder(by map[string]*LateEvents) []*LateEvents {
	list := make([]*LateEvents, 0, len(by))
	for _, events := range by {
		list = append(list, events)
	}
	slices.SortFunc(list, func(a, b *LateEvents) int { return cmp.Compare(a.FirstLeaf, b.FirstLeaf) })
	return list
}

func (l *LatenessTracker) late(events *LateEvents) {
	l.found.Count += events.Count
	l.found.Max = max(l.found.Max, events.Lateness())
	if len(l.found.Events) < maxLateEvents {
		l.found.Events = append(l.found.Events, *events)
	}
}

// Unsealed adds an event without a leaf: it is late once a checkpoint that does not
// cover it was signed later than the bound after its own time.
func (l *LatenessTracker) Unsealed(writer string, sequence int64, at, covered time.Time) {
	if covered.IsZero() || minuteOf(covered)-minuteOf(at) <= l.bound {
		return
	}
	one := LateEvents{Writer: writer, FirstSequence: sequence, LastSequence: sequence, FirstLeaf: -1, LastLeaf: -1, Oldest: at, Newest: at, Count: 1, Sealed: covered, Journal: -1}
	if n := len(l.found.Events); n > 0 && l.found.Events[n-1].Size == 0 && l.found.Events[n-1].Writer == writer {
		last := &l.found.Events[n-1]
		last.include(one)
		l.found.Count++
		l.found.Max = max(l.found.Max, last.Lateness())
		return
	}
	l.late(&one)
}

// maxJournals bounds the journals that are kept to explain late events.
const maxJournals = 10_000

// Replayed adds the attributes of an event journal_replayed: the events of that
// writer between two times were in a journal.
func (l *LatenessTracker) Replayed(leaf int64, writer, from, to string) {
	since, err := time.Parse(time.RFC3339Nano, from)
	if err != nil {
		return
	}
	until, err := time.Parse(time.RFC3339Nano, to)
	if err != nil || l.replayed >= maxJournals {
		return
	}
	l.replayed++
	l.journals[writer] = append(l.journals[writer], replayedJournal{since.Truncate(time.Second), until, leaf})
}

// admin takes an event of kind admin, which may be a journal_replayed.
func (l *LatenessTracker) admin(e *Entry) {
	var r struct {
		Action     string
		Attributes struct{ Writer, From, To string }
	}
	if json.Unmarshal(e.Record, &r) == nil && r.Action == "journal_replayed" {
		l.Replayed(e.Index, r.Attributes.Writer, r.Attributes.From, r.Attributes.To)
	}
}

// Report returns the result so far.
func (l *LatenessTracker) Report() Lateness {
	found := l.found
	found.Events = slices.Clone(l.found.Events)
	for i := range found.Events {
		events := &found.Events[i]
		for _, j := range l.journals[events.Writer] {
			if !events.Oldest.Before(j.from) && !events.Newest.After(j.to) {
				events.Journal = j.leaf
				found.Explained += events.Count
				break
			}
		}
	}
	return found
}
