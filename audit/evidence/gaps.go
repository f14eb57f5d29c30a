package evidence

import (
	"cmp"
	"context"
	"math"
	"slices"
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
	known := make(map[string]lastNumber, len(w.writers))
	var names []string
	var numbers []int64
	for _, name := range sorted(w.writers) {
		one := w.writers[name]
		known[name] = lastNumber{one.Number, one.latest}
		if one.Ended == "" {
			names, numbers = append(names, name), append(numbers, one.Number)
		}
	}
	next, err := b.log.Next(ctx, names, numbers)
	if err != nil {
		return err
	}
	for _, n := range next {
		last := known[n.Writer]
		if last.number == 0 || n.Number <= last.number {
			continue
		}
		if n.Number > last.number+1 {
			found = append(found, Gap{Writer: n.Writer, First: last.number + 1, Last: n.Number - 1, After: last.at, Before: stampOf(n.At), Leaf: -1})
		}
		known[n.Writer] = lastNumber{n.Number, stampOf(n.At)}
	}
	found = append(found, betweenRuns(b.unsealed)...)
	for i := range b.unsealed {
		if r := &b.unsealed[i]; r.Last > known[r.Writer].number {
			known[r.Writer] = lastNumber{r.Last, stampOf(r.Until)}
		}
	}
	x := group(w.explanations, w.previous)
	found = append(found, x.lost(known)...)
	slices.SortStableFunc(found, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Writer, b.Writer), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	found = slices.CompactFunc(found, func(a, b Gap) bool { return a.Writer == b.Writer && a.First == b.First })
	f := &b.facts
	found = slices.DeleteFunc(found, func(g Gap) bool { return !g.touches(f.Period) })
	x.explain(found)
	f.Gaps, f.MoreGaps = share(found, maxRows)
	return nil
}

// share returns at most so many of some gaps, which are in the order of writers and
// numbers, and how many it leaves out: of each writer the first, then of each the
// second, and so on. A writer with any number of gaps of its own does not hide those
// of another.
func share(gaps []Gap, most int) (listed []Gap, more int64) {
	if len(gaps) <= most {
		return gaps, 0
	}
	places, turns := make([]int, len(gaps)), make([]int, len(gaps))
	for i := range gaps {
		if places[i] = i; i > 0 && gaps[i].Writer == gaps[i-1].Writer {
			turns[i] = turns[i-1] + 1
		}
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(turns[a], turns[b]) })
	chosen := places[:most]
	slices.Sort(chosen)
	for _, i := range chosen {
		listed = append(listed, gaps[i])
	}
	return listed, int64(len(gaps) - most)
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

// dropInvalid leaves out the declarations that the verification does not accept:
// without a valid signature of the key that seals the log there, a declaration
// explains nothing.
func (w *walker) dropInvalid(r *audit.Report) {
	valid := make(map[int64]*audit.GapDeclaration, len(r.Gaps))
	for i := range r.Gaps {
		valid[r.Gaps[i].Index] = &r.Gaps[i]
	}
	w.explanations = slices.DeleteFunc(w.explanations, func(e explanation) bool {
		d := valid[e.leaf]
		return e.kind == string(audit.KindGapDeclared) && (d == nil || d.Writer != e.writer || d.First != e.first || d.Last != e.last)
	})
}
