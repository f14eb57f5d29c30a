package evidence

import (
	"cmp"
	"context"
	"slices"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// gaps completes the gaps that the walk found among the leaves with those that no
// leaf shows: behind the last leaf of a writer, and between events that are not
// sealed. It keeps those that touch the period.
func (b *builder) gaps(ctx context.Context, w *walker) error {
	found := w.gaps
	known := make(map[string]lastNumber, len(w.writers))
	var names []string
	var numbers []int64
	for _, name := range report.Sorted(w.writers) {
		one := w.writers[name]
		known[name] = lastNumber{one.Number, w.latest[name]}
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
			found = append(found, pack.Gap{Writer: n.Writer, First: last.number + 1, Last: n.Number - 1, After: last.at, Before: pack.FormatTime(n.At), Leaf: -1})
		}
		known[n.Writer] = lastNumber{n.Number, pack.FormatTime(n.At)}
	}
	found = append(found, betweenRuns(b.unsealed)...)
	for i := range b.unsealed {
		if r := &b.unsealed[i]; r.Last > known[r.Writer].number {
			known[r.Writer] = lastNumber{r.Last, pack.FormatTime(r.Until)}
		}
	}
	x := group(w.explanations, w.previous)
	found = append(found, x.lost(known)...)
	slices.SortStableFunc(found, func(a, b pack.Gap) int {
		return cmp.Or(cmp.Compare(a.Writer, b.Writer), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	found = slices.CompactFunc(found, func(a, b pack.Gap) bool { return a.Writer == b.Writer && a.First == b.First })
	f := &b.facts
	found = slices.DeleteFunc(found, func(g pack.Gap) bool { return !g.Touches(f.Period) })
	x.explain(found)
	f.Gaps, f.MoreGaps = share(found, pack.MaxRows)
	return nil
}

// share returns at most so many of some gaps, which are in the order of writers and
// numbers, and how many it leaves out: of each writer the first, then of each the
// second, and so on. A writer with any number of gaps of its own does not hide those
// of another.
func share(gaps []pack.Gap, most int) (listed []pack.Gap, more int64) {
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
func betweenRuns(runs []pack.UnsealedRun) []pack.Gap {
	var gaps []pack.Gap
	for i, r := range runs {
		before, at := r.Sealed, r.SealedAt
		if i > 0 && runs[i-1].Writer == r.Writer {
			before, at = runs[i-1].Last, runs[i-1].Until
		}
		if r.First > before+1 {
			gaps = append(gaps, pack.Gap{Writer: r.Writer, First: before + 1, Last: r.First - 1, After: pack.FormatTime(at), Before: pack.FormatTime(r.At), Leaf: -1})
		}
	}
	return gaps
}
