package evidence

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// numbering compares the records of a pack with the numbers and late events in its
// facts. A pack has not every event of a writer, so that it cannot show that none
// is missing; what it has must not contradict the facts, and the facts not themselves.
type numbering struct {
	facts   *pack.Facts
	gaps    map[string][]pack.Gap // in the order of first numbers
	until   map[string][]int64    // beside each gap the largest last number up to there
	late    map[string][]*pack.LateRun
	writers map[string]*pack.Writer
	found   map[*pack.LateRun]int64 // decisions of the population
	// explained are the explanations that the facts name, by leaf, as the events of
	// the pack have them. previous are the writers that a writer's first event names.
	explained map[int64]foundExplanation
	previous  predecessors
	named     map[namedLeaf]bool // which gaps name as their explanation
	steps     int64              // of searches
	wrong     error
}

// namedLeaf is a leaf that a gap of a writer names.
type namedLeaf struct {
	writer string
	leaf   int64
}

// foundExplanation is an explanation of a gap that the events of a pack have.
type foundExplanation struct {
	explanation
	valid bool // a declaration: a key of the log signed it
}

func newNumbering(f *pack.Facts) *numbering {
	n := &numbering{facts: f, explained: map[int64]foundExplanation{}, previous: predecessors{}, named: map[namedLeaf]bool{}, until: map[string][]int64{}, gaps: map[string][]pack.Gap{}, late: map[string][]*pack.LateRun{}, writers: map[string]*pack.Writer{}, found: map[*pack.LateRun]int64{}}
	for _, g := range f.Gaps {
		n.gaps[g.Writer] = append(n.gaps[g.Writer], g)
		n.named[namedLeaf{g.Writer, g.Leaf}] = true
	}
	for writer, gaps := range n.gaps {
		slices.SortFunc(gaps, func(a, b pack.Gap) int { return cmp.Compare(a.First, b.First) })
		until := make([]int64, len(gaps))
		for i, g := range gaps {
			until[i] = max(g.Last, until[max(i-1, 0)])
		}
		n.until[writer] = until
	}
	for i := range f.Late.Runs {
		r := &f.Late.Runs[i]
		n.late[r.Writer] = append(n.late[r.Writer], r)
	}
	for _, runs := range n.late {
		slices.SortFunc(runs, func(a, b *pack.LateRun) int { return int(min(max(a.LastLeaf-b.LastLeaf, -1), 1)) })
	}
	for i := range f.Writers {
		n.writers[f.Writers[i].Name] = &f.Writers[i]
	}
	return n
}

// record takes a record of the pack.
func (n *numbering) record(s *recorded.Event, leaf int64) {
	if n.wrong != nil {
		return
	}
	if n.missing(s.Writer, s.WriterSequence) {
		n.wrong = wrong("%s: number %d of writer %s is listed as missing, and leaf %d is that event", pack.FactsFile, s.WriterSequence, audit.Text(s.Writer, 100), leaf)
		return
	}
	if w := n.writers[s.Writer]; w != nil && s.WriterSequence > w.Number {
		n.wrong = wrong("%s: the last number of writer %s is listed as %d, and leaf %d is its event %d", pack.FactsFile, audit.Text(s.Writer, 100), w.Number, leaf, s.WriterSequence)
	}
}

// missing reports whether a gap has the number.
func (n *numbering) missing(writer string, number int64) bool {
	gaps := n.gaps[writer]
	first := sort.Search(len(gaps), func(i int) bool { n.steps++; return gaps[i].First > number })
	return first > 0 && n.until[writer][first-1] >= number
}

// event takes an event of the pack.
func (n *numbering) event(s *recorded.Event, leaf int64, record []byte) {
	n.record(s, leaf)
	n.previous.notice(s)
	e, ok := explanationOf(s, leaf)
	if !ok || !n.named[namedLeaf{e.writer, leaf}] {
		return
	}
	d, ok := audit.GapDeclarationOf(record)
	n.explained[leaf] = foundExplanation{e, ok && d.Signed() && slices.Contains(n.facts.Result.Keys, d.Key)}
}

// accounts reports whether the event that a gap names as its explanation is in the
// pack and explains it: a declaration that a key of the log signed, or a report of
// the gap's writer or of its successor.
func (n *numbering) accounts(g *pack.Gap) bool {
	e, ok := n.explained[g.Leaf]
	if !ok || e.kind != g.Explained || e.writer != g.Writer || e.first > g.First || e.last < g.Last || e.by != g.Reporter || e.reason != g.Reason {
		return false
	}
	if e.kind == string(audit.KindGapDeclared) {
		return e.valid
	}
	return e.by == g.Writer || n.previous[e.by][g.Writer]
}

// decision takes a decision of the population.
func (n *numbering) decision(s *recorded.Event, leaf int64) {
	n.record(s, leaf)
	runs := n.late[s.Writer]
	// A writer has at most two runs under each checkpoint, late and ahead, and the
	// leaves of two checkpoints do not overlap.
	first := sort.Search(len(runs), func(i int) bool { return runs[i].LastLeaf >= leaf })
	for _, r := range runs[first:min(first+2, len(runs))] {
		if r.FirstLeaf <= leaf && r.Has(s.Time, n.facts.Late.Bound) {
			n.found[r]++
		}
	}
}

// check returns the first contradiction: between the facts and the records, or within
// the facts.
func (n *numbering) check(size int64, keys []audit.Key) error {
	if n.wrong != nil {
		return n.wrong
	}
	f := n.facts
	if f.MoreGaps < 0 || f.MoreGaps > 0 && len(f.Gaps) < pack.MaxRows {
		return wrong("%s: it lists %d gaps, and not %d more", pack.FactsFile, len(f.Gaps), f.MoreGaps)
	}
	for i := range f.Gaps {
		if err := n.checkGap(&f.Gaps[i]); err != nil {
			return err
		}
	}
	for i := range f.Writers {
		if err := n.checkWriter(&f.Writers[i]); err != nil {
			return err
		}
	}
	return n.lateness(size, keys)
}

// checkGap checks that a gap is one of the period, and that its explanation holds.
func (n *numbering) checkGap(g *pack.Gap) error {
	isExplained := g.Explained != ""
	switch {
	case g.First < 1 || g.Last < g.First || !g.Touches(n.facts.Period),
		isExplained != (g.Leaf >= 0), isExplained && (g.Reporter == "" || !explaining[g.Explained]):
		return wrong("%s: the gap from %d to %d of writer %s is not a gap of the period", pack.FactsFile, g.First, g.Last, audit.Text(g.Writer, 100))
	case isExplained && !n.accounts(g):
		return wrong("%s: the gap from %d to %d of writer %s is explained by leaf %d as %.40s, and the pack has no such event", pack.FactsFile, g.First, g.Last, audit.Text(g.Writer, 100), g.Leaf, g.Explained)
	}
	return nil
}

// checkWriter checks that each number of a writer up to the last is an event or is
// missing, once, and that no more are listed than are missing.
func (n *numbering) checkWriter(w *pack.Writer) error {
	if w.Number != pack.AddSaturated(w.Events, w.Gaps) {
		return wrong("%s: writer %s has %d events up to number %d, and not %d numbers missing", pack.FactsFile, audit.Text(w.Name, 100), w.Events, w.Number, w.Gaps)
	}
	listed := int64(0)
	for _, g := range n.gaps[w.Name] {
		if g.Sealed {
			listed = pack.AddSaturated(listed, g.Numbers())
		}
	}
	if listed > w.Gaps {
		return wrong("%s: of writer %s %d numbers are missing, and %d are listed", pack.FactsFile, audit.Text(w.Name, 100), w.Gaps, listed)
	}
	return nil
}

// lateness checks each run of late events against the checkpoint that it names, and the
// totals against the runs.
func (n *numbering) lateness(size int64, keys []audit.Key) error {
	f := n.facts
	checkpoints := map[int64]audit.Checkpoint{}
	for _, signed := range f.Late.Checkpoints {
		c, _, err := audit.OpenCheckpoint([]byte(signed), keys...)
		if err != nil {
			return wrong("%s: late events: %v", pack.FactsFile, err)
		}
		if c.Size <= size {
			checkpoints[c.Size] = c
		}
	}
	var listed pack.Late
	for i := range f.Late.Runs {
		r := &f.Late.Runs[i]
		c, ok := checkpoints[r.Size]
		if !ok || !n.agrees(r, c) {
			return wrong("%s: the late events %d to %d of writer %s contradict the checkpoint of size %d", pack.FactsFile, r.FirstNumber, r.LastNumber, audit.Text(r.Writer, 100), r.Size)
		}
		if n.found[r] != r.Decisions && (len(f.Repositories) == 0 || n.found[r] > r.Decisions) {
			return wrong("%s: of the late events %d to %d of writer %s %d are decisions, and the population has %d", pack.FactsFile, r.FirstNumber, r.LastNumber, audit.Text(r.Writer, 100), r.Decisions, n.found[r])
		}
		listed.Add(r)
	}
	if listed.Count > f.Late.Count || listed.Ahead > f.Late.Ahead || listed.Decisions > f.Late.Decisions || listed.Arrived > f.Late.Arrived {
		return wrong("%s: it counts %d late events, and lists %d", pack.FactsFile, f.Late.Count, listed.Count)
	}
	return nil
}

// agrees reports whether a run of late events agrees with the checkpoint that it names.
func (n *numbering) agrees(r *pack.LateRun, c audit.Checkpoint) bool {
	f := n.facts
	if r.LastLeaf >= c.Size || r.FirstLeaf > r.LastLeaf || pack.FormatTime(c.Time) != r.Sealed {
		return false
	}
	for _, at := range []string{r.Oldest, r.Newest} {
		if !r.Has(at, f.Late.Bound) || !f.Period.Contains(at) {
			return false
		}
	}
	bound := time.Duration(f.Late.Bound) * time.Minute
	return r.Arrived == (!r.Ahead && c.Time.After(f.Period.To.Add(bound)))
}
