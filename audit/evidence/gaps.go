package evidence

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// A Gap is a run of numbers of one writer under which the log has nothing. A writer
// numbers its events without gaps, so that each number is an event that was lost,
// taken away, or claimed by nobody.
type Gap struct {
	Writer string `json:"writer"`
	First  int64  `json:"first_number"`
	Last   int64  `json:"last_number"`
	// After and Before are the times of the events next to the gap; empty: there is
	// none, or retention took it.
	After  string `json:"after,omitempty"`
	Before string `json:"before,omitempty"`
	// Sealed: both neighbors have a leaf under the checkpoint.
	Sealed bool `json:"sealed"`
	// Explained is the kind of the event that explains the gap, Leaf its leaf and
	// Reason what it says; empty: nothing does.
	Explained string `json:"explained_by,omitempty"`
	Leaf      int64  `json:"explained_by_leaf"` // -1: none
	Reason    string `json:"reason,omitempty"`
	// Reporter is the writer of that event. Where nothing explains the gap it is a
	// writer that reports the numbers as lost and is neither the gap's writer nor
	// its successor: a claim, of which Reason is what it says.
	Reporter string `json:"reported_by,omitempty"`
}

// Numbers is how many numbers are missing.
func (g *Gap) Numbers() int64 {
	if n := g.Last - g.First; n < math.MaxInt64 {
		return n + 1
	}
	return math.MaxInt64
}

// touches reports whether what is missing may have happened in a period.
func (g *Gap) touches(p Period) bool {
	return (g.Before == "" || !momentOf(g.Before).Before(p.From)) && (g.After == "" || momentOf(g.After).Before(p.To))
}

// UnsealedRun are consecutive numbers of a writer without a leaf.
type UnsealedRun struct {
	Writer      string
	Sealed      int64     // the writer's last number with a leaf; 0: none
	SealedAt    time.Time // the time of that event; zero: retention took it, or there is none
	First, Last int64
	At, Until   time.Time // of the events First and Last
	Twice       int64     // the first of these numbers that more than one event has; 0: none
	InPeriod    int64     // events of the period among them
}

// waits reports whether the next checkpoint covers the run: it follows on what is
// sealed. Every other run is behind a gap, or behind a number that two events have,
// of which neither is ever sealed.
func (r *UnsealedRun) waits() bool { return r.First == r.Sealed+1 && r.Twice != r.First }

// NextNumber is the number that a writer has after another one, sealed or not.
type NextNumber struct {
	Writer string
	Number int64
	At     time.Time // zero: retention took the event
}

// addSaturated adds two counts. Numbers that somebody made up can be so large that
// a sum of them wraps.
func addSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func stampOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// gaps completes the gaps that the walk found among the leaves with those that no
// leaf shows: behind the last leaf of a writer, and between events that are not
// sealed. It keeps those that touch the period.
func (b *builder) gaps(ctx context.Context, w *walker) error {
	found := w.gaps
	var names []string
	var numbers []int64
	for _, name := range sorted(w.writers) {
		if one := w.writers[name]; one.Ended == "" {
			names, numbers = append(names, name), append(numbers, one.Number)
		}
	}
	next, err := b.log.Next(ctx, names, numbers)
	if err != nil {
		return err
	}
	for _, n := range next {
		one := w.writers[n.Writer]
		if one == nil || n.Number <= one.Number+1 {
			continue
		}
		found = append(found, Gap{Writer: n.Writer, First: one.Number + 1, Last: n.Number - 1, After: one.latest, Before: stampOf(n.At), Leaf: -1})
	}
	found = append(found, betweenRuns(b.unsealed)...)
	found = append(found, w.lost(found)...)
	slices.SortStableFunc(found, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Writer, b.Writer), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	found = slices.CompactFunc(found, func(a, b Gap) bool { return a.Writer == b.Writer && a.First == b.First })
	f := &b.facts
	for i := range found {
		g := &found[i]
		if !g.touches(f.Period) {
			continue
		}
		w.explain(g)
		f.Gaps = append(f.Gaps, *g)
	}
	return nil
}

// betweenRuns are the gaps before the runs of unsealed numbers.
func betweenRuns(runs []UnsealedRun) []Gap {
	var gaps []Gap
	for i, r := range runs {
		before, at := r.Sealed, r.SealedAt
		if i > 0 && runs[i-1].Writer == r.Writer {
			before, at = runs[i-1].Last, runs[i-1].Until
		}
		if r.First > before+1 {
			gaps = append(gaps, Gap{Writer: r.Writer, First: before + 1, Last: r.First - 1, After: stampOf(at), Before: stampOf(r.At), Leaf: -1})
		}
	}
	return gaps
}

// An explanation is an event that says why numbers of a writer are missing.
type explanation struct {
	kind        string
	by          string // who wrote the event
	writer      string
	first, last int64
	leaf        int64
	reason      string
	at          string
}

// explanationOf reads an event that explains a gap.
func explanationOf(s *said, leaf int64) (e explanation, ok bool) {
	if !explaining[s.Kind] || s.Kind == string(audit.KindGapDeclared) && s.Writer != audit.DatabaseWriter {
		return e, false
	}
	e = explanation{kind: s.Kind, by: s.Writer, writer: s.Attributes["writer"], leaf: leaf, reason: cmp.Or(s.Attributes["reason"], s.Message), at: s.Time}
	var err1, err2 error
	e.first, err1 = strconv.ParseInt(s.Attributes["first"], 10, 64)
	e.last, err2 = strconv.ParseInt(s.Attributes["last"], 10, 64)
	return e, err1 == nil && err2 == nil && e.first >= 1 && e.first <= e.last
}

// dropInvalid leaves out the declarations that the verification does not accept:
// without a valid signature of the key that seals the log there, a declaration
// explains nothing.
func (w *walker) dropInvalid(r *audit.Report) {
	w.explanations = slices.DeleteFunc(w.explanations, func(e explanation) bool {
		return e.kind == string(audit.KindGapDeclared) && !slices.ContainsFunc(r.Gaps, func(d audit.GapDeclaration) bool {
			return d.Index == e.leaf && d.Writer == e.writer && d.First == e.first && d.Last == e.last
		})
	})
}

// explaining are the kinds of events that explain gaps.
var explaining = map[string]bool{string(audit.KindGapDeclared): true, string(audit.KindEventsLost): true}

// continues reports whether a writer said with its first event that it continues
// another one. That event may name several, separated by spaces.
func (w *walker) continues(writer, previous string) bool {
	return slices.Contains(strings.Fields(w.previous[writer]), previous)
}

// explain says which event accounts for all of a gap. A declaration, which is signed,
// counts before the report of the gap's writer or of its successor. The report of
// another writer explains nothing: every login that may write could make it.
func (w *walker) explain(g *Gap) {
	for _, e := range w.explanations {
		if e.writer != g.Writer || e.first > g.First || e.last < g.Last || g.Explained == string(audit.KindGapDeclared) {
			continue
		}
		declared := e.kind == string(audit.KindGapDeclared)
		switch {
		case declared, g.Explained == "" && (e.by == g.Writer || w.continues(e.by, g.Writer)):
			g.Explained, g.Leaf, g.Reason, g.Reporter = e.kind, e.leaf, e.reason, e.by
		case g.Explained == "" && g.Reporter == "":
			g.Reason, g.Reporter = e.reason, e.by
		}
	}
}

// lost are the numbers that an event says were lost behind the last number that the
// log has of a writer: a tail, which no later number shows.
func (w *walker) lost(known []Gap) []Gap {
	var gaps []Gap
	for _, e := range w.explanations {
		one := w.writers[e.writer]
		first, after := e.first, ""
		if one != nil {
			first, after = max(first, one.Number+1), one.latest
		}
		isKnown := func(g Gap) bool { return g.Writer == e.writer && g.First <= first && g.Last >= first }
		if first > e.last || slices.ContainsFunc(known, isKnown) || slices.ContainsFunc(gaps, isKnown) {
			continue
		}
		gaps = append(gaps, Gap{Writer: e.writer, First: first, Last: e.last, After: after, Before: e.at, Leaf: -1})
	}
	return gaps
}
