package evidence

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// numbering compares the records of a pack with the numbers and late events in its
// facts. A pack has not every event of a writer, so that it cannot show that none
// is missing; what it has must not contradict the facts, and the facts not themselves.
type numbering struct {
	facts   *Facts
	gaps    map[string][]Gap   // in the order of first numbers
	until   map[string][]int64 // beside each gap the largest last number up to there
	late    map[string][]*LateRun
	writers map[string]*Writer
	found   map[*LateRun]int64 // decisions of the population
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

func newNumbering(f *Facts) *numbering {
	n := &numbering{facts: f, explained: map[int64]foundExplanation{}, previous: predecessors{}, named: map[namedLeaf]bool{}, until: map[string][]int64{}, gaps: map[string][]Gap{}, late: map[string][]*LateRun{}, writers: map[string]*Writer{}, found: map[*LateRun]int64{}}
	for _, g := range f.Gaps {
		n.gaps[g.Writer] = append(n.gaps[g.Writer], g)
		n.named[namedLeaf{g.Writer, g.Leaf}] = true
	}
	for writer, gaps := range n.gaps {
		slices.SortFunc(gaps, func(a, b Gap) int { return cmp.Compare(a.First, b.First) })
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
		slices.SortFunc(runs, func(a, b *LateRun) int { return int(min(max(a.LastLeaf-b.LastLeaf, -1), 1)) })
	}
	for i := range f.Writers {
		n.writers[f.Writers[i].Name] = &f.Writers[i]
	}
	return n
}

// record takes a record of the pack.
func (n *numbering) record(s *recordFields, leaf int64) {
	if n.wrong != nil {
		return
	}
	if n.missing(s.Writer, s.WriterSequence) {
		n.wrong = wrong("%s: number %d of writer %s is listed as missing, and leaf %d is that event", factsFile, s.WriterSequence, audit.Text(s.Writer, 100), leaf)
		return
	}
	if w := n.writers[s.Writer]; w != nil && s.WriterSequence > w.Number {
		n.wrong = wrong("%s: the last number of writer %s is listed as %d, and leaf %d is its event %d", factsFile, audit.Text(s.Writer, 100), w.Number, leaf, s.WriterSequence)
	}
}

// missing reports whether a gap has the number.
func (n *numbering) missing(writer string, number int64) bool {
	gaps := n.gaps[writer]
	first := sort.Search(len(gaps), func(i int) bool { n.steps++; return gaps[i].First > number })
	return first > 0 && n.until[writer][first-1] >= number
}

// event takes an event of the pack.
func (n *numbering) event(s *recordFields, leaf int64, record []byte) {
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
func (n *numbering) accounts(g *Gap) bool {
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
func (n *numbering) decision(s *recordFields, leaf int64) {
	n.record(s, leaf)
	runs := n.late[s.Writer]
	// A writer has at most two runs under each checkpoint, late and ahead, and the
	// leaves of two checkpoints do not overlap.
	first := sort.Search(len(runs), func(i int) bool { return runs[i].LastLeaf >= leaf })
	for _, r := range runs[first:min(first+2, len(runs))] {
		if r.FirstLeaf <= leaf && r.has(s.Time, n.facts.Late.Bound) {
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
	if f.MoreGaps < 0 || f.MoreGaps > 0 && len(f.Gaps) < maxRows {
		return wrong("%s: it lists %d gaps, and not %d more", factsFile, len(f.Gaps), f.MoreGaps)
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
func (n *numbering) checkGap(g *Gap) error {
	isExplained := g.Explained != ""
	switch {
	case g.First < 1 || g.Last < g.First || !g.touches(n.facts.Period),
		isExplained != (g.Leaf >= 0), isExplained && (g.Reporter == "" || !explaining[g.Explained]):
		return wrong("%s: the gap from %d to %d of writer %s is not a gap of the period", factsFile, g.First, g.Last, audit.Text(g.Writer, 100))
	case isExplained && !n.accounts(g):
		return wrong("%s: the gap from %d to %d of writer %s is explained by leaf %d as %.40s, and the pack has no such event", factsFile, g.First, g.Last, audit.Text(g.Writer, 100), g.Leaf, g.Explained)
	}
	return nil
}

// checkWriter checks that each number of a writer up to the last is an event or is
// missing, once, and that no more are listed than are missing.
func (n *numbering) checkWriter(w *Writer) error {
	if w.Number != addSaturated(w.Events, w.Gaps) {
		return wrong("%s: writer %s has %d events up to number %d, and not %d numbers missing", factsFile, audit.Text(w.Name, 100), w.Events, w.Number, w.Gaps)
	}
	listed := int64(0)
	for _, g := range n.gaps[w.Name] {
		if g.Sealed {
			listed = addSaturated(listed, g.Numbers())
		}
	}
	if listed > w.Gaps {
		return wrong("%s: of writer %s %d numbers are missing, and %d are listed", factsFile, audit.Text(w.Name, 100), w.Gaps, listed)
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
			return wrong("%s: late events: %v", factsFile, err)
		}
		if c.Size <= size {
			checkpoints[c.Size] = c
		}
	}
	var listed Late
	for i := range f.Late.Runs {
		r := &f.Late.Runs[i]
		c, ok := checkpoints[r.Size]
		if !ok || !n.agrees(r, c) {
			return wrong("%s: the late events %d to %d of writer %s contradict the checkpoint of size %d", factsFile, r.FirstNumber, r.LastNumber, audit.Text(r.Writer, 100), r.Size)
		}
		if n.found[r] != r.Decisions && (len(f.Repositories) == 0 || n.found[r] > r.Decisions) {
			return wrong("%s: of the late events %d to %d of writer %s %d are decisions, and the population has %d", factsFile, r.FirstNumber, r.LastNumber, audit.Text(r.Writer, 100), r.Decisions, n.found[r])
		}
		listed.add(r)
	}
	if listed.Count > f.Late.Count || listed.Ahead > f.Late.Ahead || listed.Decisions > f.Late.Decisions || listed.Arrived > f.Late.Arrived {
		return wrong("%s: it counts %d late events, and lists %d", factsFile, f.Late.Count, listed.Count)
	}
	return nil
}

// agrees reports whether a run of late events agrees with the checkpoint that it names.
func (n *numbering) agrees(r *LateRun, c audit.Checkpoint) bool {
	f := n.facts
	if r.LastLeaf >= c.Size || r.FirstLeaf > r.LastLeaf || stampOf(c.Time) != r.Sealed {
		return false
	}
	for _, at := range []string{r.Oldest, r.Newest} {
		if !r.has(at, f.Late.Bound) || !f.Period.within(at) {
			return false
		}
	}
	bound := time.Duration(f.Late.Bound) * time.Minute
	return r.Arrived == (!r.Ahead && c.Time.After(f.Period.To.Add(bound)))
}
