package evidence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// one by one: what explain and lost do, by comparing each gap with each explanation.
func explainedOneByOne(g pack.Gap, list []explanation, p predecessors) pack.Gap {
	for class := range allClasses {
		for _, e := range list {
			if e.class(p) != class || e.writer != g.Writer || e.first > g.First || e.last < g.Last {
				continue
			}
			g.Reason, g.Reporter = e.reason, e.by
			if class != claimClass {
				g.Explained, g.Leaf = e.kind, e.leaf
			}
			return g
		}
	}
	return g
}

// TestExplanationsOneByOne compares the searches with plain loops, for gaps and
// explanations of every arrangement.
func TestExplanationsOneByOne(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	p := predecessors{"successor": {"w": true}}
	for range 3000 {
		var list []explanation
		for leaf := range r.IntN(12) {
			first := r.Int64N(30) + 1
			e := explanation{kind: string(audit.KindEventsLost), by: []string{"w", "successor", "stranger"}[r.IntN(3)], writer: "w",
				first: first, last: first + r.Int64N(12), leaf: int64(leaf), reason: fmt.Sprint(leaf)}
			if r.IntN(4) == 0 {
				e.kind, e.by = string(audit.KindGapDeclared), audit.DatabaseWriter
			}
			list = append(list, e)
		}
		var gaps []pack.Gap
		for range r.IntN(8) {
			first := r.Int64N(30) + 1
			gaps = append(gaps, pack.Gap{Writer: "w", First: first, Last: first + r.Int64N(6), Leaf: -1})
		}
		want := slices.Clone(gaps)
		for i := range want {
			want[i] = explainedOneByOne(want[i], list, p)
		}
		x := group(list, p)
		if x.explain(gaps); !slices.Equal(gaps, want) {
			t.Fatalf("%+v explain\n%+v, want\n%+v", list, gaps, want)
		}
		last := r.Int64N(20)
		tail := x.lost(map[string]lastNumber{"w": {number: last}})
		x.explain(tail)
		for number := int64(1); number < 50; number++ {
			var listed []pack.Gap
			for _, g := range tail {
				if g.First <= number && number <= g.Last {
					listed = append(listed, g)
				}
			}
			reported := explainedOneByOne(pack.Gap{Writer: "w", First: number, Last: number, Leaf: -1}, list, p)
			switch {
			case number <= last || reported.Reporter == "":
				if len(listed) > 0 {
					t.Fatalf("%+v: number %d after %d is listed: %+v", list, number, last, listed)
				}
			case len(listed) != 1 || (listed[0].Explained == "") != (reported.Explained == "") || listed[0].Explained != "" && listed[0].Explained != reported.Explained:
				t.Fatalf("%+v: number %d after %d: %+v, want one as %+v", list, number, last, listed, reported)
			}
		}
	}
}

// TestManyGapsAndExplanations: a login that may write adds any number of gaps of its own
// and of reports. The steps of making and checking a pack do not grow as their product.
func TestManyGapsAndExplanations(t *testing.T) {
	t.Parallel()
	const many = 20_000
	var gaps []pack.Gap
	var list []explanation
	for n := range int64(many) {
		gaps = append(gaps, pack.Gap{Writer: "w", First: 2*n + 2, Last: 2*n + 2, Leaf: -1})
		list = append(list, explanation{kind: string(audit.KindEventsLost), by: "stranger", writer: "w", first: 2*n + 2, last: 4 * many, leaf: n})
	}
	x := group(list, nil)
	x.explain(gaps)
	if last := gaps[many-1]; last.Reporter != "stranger" || last.Explained != "" {
		t.Errorf("%+v", last)
	}
	tail := x.lost(map[string]lastNumber{"w": {number: 2*many + 1}})
	if len(tail) != 1 || tail[0].Numbers() != 2*many-1 {
		t.Errorf("%+v", tail)
	}
	if x.steps == 0 || x.steps > 64*many {
		t.Errorf("%d steps to explain %d gaps by as many events", x.steps, many)
	}
	n := newNumbering(&pack.Facts{Gaps: gaps})
	for number := range int64(many) {
		if n.record(&recorded.Event{Writer: "w", WriterSequence: 2*number + 1}, number); n.wrong != nil {
			t.Fatal(n.wrong)
		}
	}
	if n.steps == 0 || n.steps > 32*many {
		t.Errorf("%d steps to compare %d records with as many gaps", n.steps, many)
	}
	for i, g := range []pack.Gap{{First: 1, Last: 1 << 60}, {First: 40, Last: 41}} { // of a forged pack
		n := newNumbering(&pack.Facts{Gaps: []pack.Gap{{Writer: "w", First: 3, Last: 3}, {Writer: "w", First: g.First, Last: g.Last}}})
		if n.record(&recorded.Event{Writer: "w", WriterSequence: 41}, 0); n.wrong == nil {
			t.Errorf("%d: number 41 is missing and recorded", i)
		}
	}
}

// TestGapsAreShared: a writer with more gaps than a pack lists does not hide another's.
func TestGapsAreShared(t *testing.T) {
	t.Parallel()
	var gaps []pack.Gap
	for n := range int64(pack.MaxRows + 7) {
		gaps = append(gaps, pack.Gap{Writer: "a stranger", First: 2*n + 1, Last: 2*n + 1})
	}
	gaps = append(gaps, pack.Gap{Writer: "server", First: 5, Last: 9}, pack.Gap{Writer: "server", First: 20, Last: 20})
	listed, more := share(gaps, pack.MaxRows)
	if len(listed) != pack.MaxRows || more != 9 || listed[pack.MaxRows-1].First != 20 || listed[pack.MaxRows-2].First != 5 || listed[0].First != 1 {
		t.Errorf("%d are listed and %d are not, the last is %+v", len(listed), more, listed[len(listed)-1])
	}
	// The control removed: the first ones in the order of writers.
	if slices.ContainsFunc(gaps[:pack.MaxRows], func(g pack.Gap) bool { return g.Writer == "server" }) {
		t.Error("the attack fails without the control as well")
	}
	if all, more := share(gaps[:10], pack.MaxRows); len(all) != 10 || more != 0 {
		t.Errorf("%d, %d", len(all), more)
	}
}
