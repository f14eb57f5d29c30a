package evidence

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
	"github.com/sallyport/sallyport/audit/recorded"
)

// An explanation is an event that gives a reason for missing numbers of a writer.
type explanation struct {
	kind        string
	by          string // the writer of the event
	writer      string
	first, last int64
	leaf        int64
	reason      string
	at          string
}

// explaining are the kinds of events that explain gaps.
var explaining = map[string]bool{string(audit.KindGapDeclared): true, string(audit.KindEventsLost): true}

// explanationOf reads an event that explains a gap.
func explanationOf(s *recorded.Event, leaf int64) (e explanation, ok bool) {
	if !explaining[s.Kind] || s.Kind == string(audit.KindGapDeclared) && s.Writer != audit.DatabaseWriter {
		return e, false
	}
	e = explanation{kind: s.Kind, by: s.Writer, writer: s.Attributes["writer"], leaf: leaf, reason: cmp.Or(s.Attributes["reason"], s.Message), at: s.Time}
	first, err1 := strconv.ParseUint(s.Attributes["first"], 10, 53) // as the database bounds numbers
	last, err2 := strconv.ParseUint(s.Attributes["last"], 10, 53)
	e.first, e.last = int64(first), int64(last)
	return e, err1 == nil && err2 == nil && e.first >= 1 && e.first <= e.last
}

// classes of explanations, the one that counts most first. A declaration is signed.
// The report of the writer whose numbers are missing, or of its successor, explains a
// gap. The report of another writer is a claim, which every login that may write can
// make.
const (
	declaredClass = iota
	ownClass
	claimClass
	allClasses
)

func (e *explanation) class(p predecessors) int {
	switch {
	case e.kind == string(audit.KindGapDeclared):
		return declaredClass
	case e.by == e.writer || p[e.by][e.writer]:
		return ownClass
	}
	return claimClass
}

// explanations are the explanations of a log, by the writer whose numbers they name.
// A login that may write adds any number of them, and of gaps of its own. So every
// search here takes n log n steps, which are counted.
type explanations struct {
	of    map[string]*[allClasses][]explanation // each in the order of leaves
	steps int64
}

// group takes explanations in the order of their leaves.
func group(list []explanation, p predecessors) *explanations {
	x := &explanations{of: make(map[string]*[allClasses][]explanation)}
	for _, e := range list {
		classes := x.of[e.writer]
		if classes == nil {
			classes = new([allClasses][]explanation)
			x.of[e.writer] = classes
		}
		c := e.class(p)
		classes[c] = append(classes[c], e)
	}
	return x
}

// explain finds for each gap the first explanation of the best class that accounts for
// all of its numbers. gaps are in the order of writers.
func (x *explanations) explain(gaps []pack.Gap) {
	for len(gaps) > 0 {
		n := 1
		for n < len(gaps) && gaps[n].Writer == gaps[0].Writer {
			n++
		}
		if classes := x.of[gaps[0].Writer]; classes != nil {
			for class := range classes {
				x.explainBy(gaps[:n], classes[class], class)
			}
		}
		gaps = gaps[n:]
	}
}

func (x *explanations) explainBy(gaps []pack.Gap, list []explanation, class int) {
	if len(list) == 0 {
		return
	}
	for i, found := range x.covering(gaps, list) {
		g := &gaps[i]
		if found < 0 || g.Explained != "" {
			continue
		}
		e := &list[found]
		g.Reason, g.Reporter = e.reason, e.by
		if class != claimClass {
			g.Explained, g.Leaf = e.kind, e.leaf
		}
	}
}

// covering returns for each gap the place in the list of the first explanation that
// covers all of it; -1: none does. It adds explanations by their last numbers, the
// largest first, to a tree over their first numbers (P. M. Fenwick, A new data
// structure for cumulative frequency tables, 1994) that keeps the least place.
func (x *explanations) covering(gaps []pack.Gap, list []explanation) []int {
	firsts, byLast := make([]int64, len(list)), make([]int, len(list))
	for i := range list {
		firsts[i], byLast[i] = list[i].first, i
	}
	slices.Sort(firsts)
	slices.SortFunc(byLast, func(a, b int) int { return cmp.Compare(list[b].last, list[a].last) })
	order := make([]int, len(gaps))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(gaps[b].Last, gaps[a].Last) })
	least := make([]int, len(list)+1)
	for i := range least {
		least[i] = math.MaxInt
	}
	found := make([]int, len(gaps))
	added := 0
	for _, at := range order {
		g := &gaps[at]
		for ; added < len(byLast) && list[byLast[added]].last >= g.Last; added++ {
			rank, _ := slices.BinarySearch(firsts, list[byLast[added]].first)
			for i := rank + 1; i < len(least); i += i & -i {
				least[i] = min(least[i], byLast[added])
				x.steps++
			}
		}
		place := math.MaxInt
		rank, _ := slices.BinarySearch(firsts, g.First+1) // of the first numbers up to g.First
		for i := rank; i > 0; i -= i & -i {
			place = min(place, least[i])
			x.steps++
		}
		if found[at] = place; place == math.MaxInt {
			found[at] = -1
		}
	}
	return found
}

// lost are the numbers that events report as lost behind the last number that is known
// of a writer: a tail, which no later number shows. known are the last numbers, with
// the times of their events. Each number is listed once, with the explanation of the
// best class.
func (x *explanations) lost(known map[string]lastNumber) []pack.Gap {
	var gaps []pack.Gap
	for _, writer := range report.Sorted(x.of) {
		last := known[writer]
		var listed []pack.Gap // in the order of numbers
		for _, list := range x.of[writer] {
			listed = x.fill(listed, list, writer, last)
		}
		gaps = append(gaps, listed...)
	}
	return gaps
}

// lastNumber is the last number that is known of a writer, and the time of its event;
// empty: retention removed it, or none is known.
type lastNumber struct {
	number int64
	at     string
}

// fill adds the numbers of some explanations that are not listed yet.
func (x *explanations) fill(listed []pack.Gap, list []explanation, writer string, last lastNumber) []pack.Gap {
	byFirst := slices.Clone(list)
	slices.SortStableFunc(byFirst, func(a, b explanation) int { return cmp.Compare(a.first, b.first) })
	var added []pack.Gap
	next, at := last.number+1, 0
	for _, e := range byFirst {
		for first := max(e.first, next); first <= e.last; {
			for at < len(listed) && listed[at].Last < first {
				at++
				x.steps++
			}
			if at < len(listed) && listed[at].First <= first {
				first = listed[at].Last + 1
				x.steps++
				continue
			}
			until := e.last
			if at < len(listed) {
				until = min(until, listed[at].First-1)
			}
			added = append(added, pack.Gap{Writer: writer, First: first, Last: until, After: last.at, Before: e.at, Leaf: -1})
			first = until + 1
			x.steps++
		}
		next = max(next, e.last+1)
	}
	listed = append(listed, added...)
	slices.SortFunc(listed, func(a, b pack.Gap) int { return cmp.Compare(a.First, b.First) })
	return listed
}
