package evidence

import (
	"bytes"
	"sort"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// lateWalk measures the events of the period as they go by.
type lateWalk struct {
	verification *audit.Verification
	tracker      *audit.LatenessTracker
	notes        map[int64]string // of checkpoints that late events name, by size
}

func newLateWalk(v *audit.Verification) *lateWalk {
	return &lateWalk{verification: v, tracker: audit.NewLatenessTracker(0), notes: map[int64]string{}}
}

func (l *lateWalk) add(e *audit.Entry, at, kind string) {
	l.tracker.Add(e.Index, e.Writer, e.Sequence, pack.ParseTime(at), kind == string(audit.KindDecision))
}

// checkpoint takes a checkpoint that the verification has taken. One that does not
// hold is not evidence of a time.
func (l *lateWalk) checkpoint(s audit.Statement) {
	c, err := audit.ReadCheckpoint(s.Note)
	if err != nil || l.verification.Covered() != c {
		return
	}
	if l.tracker.Checkpoint(c.Size, c.Time) {
		l.notes[c.Size] = string(s.Note)
	}
}

func (l *lateWalk) found(p pack.Period) pack.Late {
	found := l.tracker.Report()
	late := pack.Late{
		Bound: int64(found.Bound / time.Minute), Count: found.Count, Explained: found.Explained, Max: int64(found.Max / time.Second),
		Ahead: found.Ahead, MaxAhead: int64(found.MaxAhead / time.Second),
	}
	end := p.To.Add(found.Bound)
	for i, events := range [][]audit.LateEvents{found.Events, found.AheadOf} {
		for _, e := range events {
			r := pack.LateRun{
				Writer: e.Writer, FirstNumber: e.FirstSequence, LastNumber: e.LastSequence, FirstLeaf: e.FirstLeaf, LastLeaf: e.LastLeaf,
				Count: e.Count, Decisions: e.Decisions, Oldest: pack.FormatTime(e.Oldest), Newest: pack.FormatTime(e.Newest), Size: e.Size, Sealed: pack.FormatTime(e.Sealed),
				Journal: e.Journal, Arrived: i == 0 && e.Sealed.After(end), Ahead: i == 1,
			}
			if r.Arrived {
				late.Arrived += e.Count
			}
			if i == 0 {
				late.Decisions += e.Decisions
			}
			late.Runs = append(late.Runs, r)
		}
	}
	for _, size := range sorted64(l.notes) {
		late.Checkpoints = append(late.Checkpoints, l.notes[size])
	}
	return late
}

// replayed takes an event about a replayed journal.
func (l *lateWalk) replayed(s *recorded.Event, leaf int64) {
	if s.Kind == string(audit.KindAdmin) && s.Action == "journal_replayed" {
		l.tracker.Replayed(leaf, s.Attributes["writer"], s.Attributes["from"], s.Attributes["to"])
	}
}

// replayedField is in the record of an event about a replayed journal, which explains
// late events and is written after them.
var replayedField = []byte(`,"action":"journal_replayed"`)

func isReplayed(kind string, record []byte) bool {
	return kind == string(audit.KindAdmin) && bytes.Contains(record, replayedField)
}

func sorted64[V any](m map[int64]V) []int64 {
	list := make([]int64, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}
