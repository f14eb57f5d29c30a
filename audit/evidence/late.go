package evidence

import (
	"bytes"
	"sort"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Late is which events of the period were sealed long after their own time: see
// audit.Lateness. It is not damage.
type Late struct {
	Bound     int64 `json:"bound_minutes"`
	Count     int64 `json:"events"`
	Decisions int64 `json:"decisions"` // of these
	Explained int64 `json:"explained"` // of the events, by an event that says that their journal was replayed
	Arrived   int64 `json:"after_the_period"`
	Most      int64 `json:"most_seconds"`
	Ahead     int64 `json:"ahead"` // events that are dated after the checkpoint that first covers them
	MostAhead int64 `json:"most_ahead_seconds"`
	// Runs are the first ten thousand, with the checkpoints that they name.
	Runs        []LateRun `json:"runs"`
	Checkpoints []string  `json:"checkpoints"`
}

// LateRun are late events of one writer that the same checkpoint was the first to cover.
type LateRun struct {
	Writer      string `json:"writer"`
	FirstNumber int64  `json:"first_number"`
	LastNumber  int64  `json:"last_number"`
	FirstLeaf   int64  `json:"first_leaf"`
	LastLeaf    int64  `json:"last_leaf"`
	Count       int64  `json:"events"`
	Decisions   int64  `json:"decisions"`
	Oldest      string `json:"oldest"`
	Newest      string `json:"newest"`
	Size        int64  `json:"checkpoint_size"`
	Sealed      string `json:"sealed"`         // when that checkpoint was signed
	Journal     int64  `json:"journal_leaf"`   // -1: no event says that a journal was replayed
	Arrived     bool   `json:"after_the_end"`  // sealed later than the bound after the end of the period
	Ahead       bool   `json:"ahead_of_clock"` // dated after the checkpoint
}

// lateness is how late the oldest event is; below zero: how far the newest is ahead.
func (r *LateRun) lateness() time.Duration {
	sealed := momentOf(r.Sealed)
	if r.Ahead {
		return sealed.Sub(momentOf(r.Newest))
	}
	return sealed.Sub(momentOf(r.Oldest))
}

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
	l.tracker.Add(e.Index, e.Writer, e.Sequence, momentOf(at), kind == string(audit.KindDecision))
}

// checkpoint takes a checkpoint that the verification has taken. One that does not
// hold says nothing of when.
func (l *lateWalk) checkpoint(s audit.Statement) {
	c, err := audit.ReadCheckpoint(s.Note)
	if err != nil || l.verification.Covered() != c {
		return
	}
	if l.tracker.Checkpoint(c.Size, c.Time) {
		l.notes[c.Size] = string(s.Note)
	}
}

func (l *lateWalk) found(p Period) Late {
	found := l.tracker.Report()
	late := Late{
		Bound: int64(found.Bound / time.Minute), Count: found.Count, Explained: found.Explained, Most: int64(found.Most / time.Second),
		Ahead: found.Ahead, MostAhead: int64(found.MostAhead / time.Second),
	}
	end := p.To.Add(found.Bound)
	for i, events := range [][]audit.LateEvents{found.Events, found.AheadOf} {
		for _, e := range events {
			r := LateRun{
				Writer: e.Writer, FirstNumber: e.FirstSequence, LastNumber: e.LastSequence, FirstLeaf: e.FirstLeaf, LastLeaf: e.LastLeaf,
				Count: e.Count, Decisions: e.Decisions, Oldest: stampOf(e.Oldest), Newest: stampOf(e.Newest), Size: e.Size, Sealed: stampOf(e.Sealed),
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

func sorted64[V any](m map[int64]V) []int64 {
	list := make([]int64, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}

// replayedField is in the record of an event about a replayed journal, which explains
// late events and is written after them.
var replayedField = []byte(`,"action":"journal_replayed"`)

func isReplayed(kind string, record []byte) bool {
	return kind == string(audit.KindAdmin) && bytes.Contains(record, replayedField)
}

// replayed takes an event about a replayed journal.
func (l *lateWalk) replayed(s *recordFields, leaf int64) {
	if s.Kind == string(audit.KindAdmin) && s.Action == "journal_replayed" {
		l.tracker.Replayed(leaf, s.Attributes["writer"], s.Attributes["from"], s.Attributes["to"])
	}
}

var lateSpec = sectionSpec{
	name: "late", title: "Events that were sealed late", criteria: []string{"PI1.4", "CC7.2"},
	begin: func() section { return new(lateSection) },
	text: `{{with .Facts.Late}}<p>The time of an event is its writer's clock; the signed checkpoint that first covers the event has the time of sealing, usually seconds later. An event that is more than {{.Bound}} minutes late was in a journal during an outage, waited for sealing or behind a gap, comes from a writer whose clock is behind, or was <b>backdated</b>.</p>
{{if not (or .Count .Ahead)}}<p>No event of the period was sealed late.</p>
{{else}}<p>{{n .Count "event" "events"}} of the period {{if eq .Count 1}}was{{else}}were{{end}} sealed late, {{n .Decisions "decision" "decisions"}} among them, by up to {{seconds .Most}}. For {{if .Explained}}{{.Explained}}{{else}}none{{end}} of them an event reports that their journal was replayed after an outage. The report is its writer's, who has to be the server of that time: a login that may record can add one for events that it backdated itself. It may be sealed after the checkpoint of this pack; a pack of a later checkpoint (<code>--size</code>) has it.</p>
{{if .Arrived}}<p><b>{{.Arrived}} of them arrived after the end of the period</b>: their checkpoint was signed more than {{.Bound}} minutes after it. An earlier pack of the same period does not have these events, and otherwise has the same decisions; ends that were sealed in between are added.</p>
{{else}}<p>None of them arrived after the end of the period.</p>{{end}}
{{if .Ahead}}<p>{{n .Ahead "event is" "events are"}} dated more than 5 minutes after the checkpoint that covers them, by up to {{seconds .MostAhead}}: their writer's clock is ahead, or they were dated forward.</p>{{end}}{{end}}{{end}}`,
}

type lateSection struct {
	nothing
	Facts *Facts
}

func (c *lateSection) finish(f *Facts) []Table {
	c.Facts = f
	t := Table{
		Name: "late_events", Title: "Late events of the period",
		Note: "Each row is one writer and the checkpoint that first covers these events. The leaves are those of population.csv; leaves between them may belong to events that are not late.",
		Columns: []string{"oldest", "newest", "sealed", "late_by", "after_the_end_of_the_period", "events", "decisions", "journal_replayed", "writer",
			"first_number", "last_number", "first_leaf", "last_leaf", "checkpoint_size"},
		Extra: 5,
	}
	for i := range f.Late.Runs {
		r := &f.Late.Runs[i]
		journal := "no"
		if r.Journal >= 0 {
			journal = "leaf " + whole(r.Journal)
		}
		t.Rows = append(t.Rows, []string{r.Oldest, r.Newest, r.Sealed, audit.FormatDuration(r.lateness()), yes(r.Arrived), whole(r.Count), whole(r.Decisions), journal, r.Writer,
			whole(r.FirstNumber), whole(r.LastNumber), whole(r.FirstLeaf), whole(r.LastLeaf), whole(r.Size)})
	}
	return []Table{t}
}
