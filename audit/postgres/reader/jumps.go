package reader

import (
	"cmp"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// jumps are the numbers that the leaves of a writer step over: declared gaps, in
// a sound log. They depend on the order of the leaves alone, and not on how the
// leaves are divided into windows.
type jumps struct {
	to   map[string]*int64 // the highest number of each writer so far
	last string            // the writer of the latest leaf
	high *int64            // its highest number
	list []jump
}

type jump struct {
	writer      string
	first, last int64
}

// add takes the leaves of the next window, in the order of the tree.
func (j *jumps) add(leaves []audit.Entry) {
	for i := range leaves {
		e := &leaves[i]
		if j.high == nil || j.last != e.Writer {
			j.last, j.high = e.Writer, j.of(e.Writer)
		}
		if e.Sequence > *j.high+1 {
			j.list = append(j.list, jump{e.Writer, *j.high + 1, e.Sequence - 1})
		}
		*j.high = max(*j.high, e.Sequence)
	}
}

func (j *jumps) of(writer string) *int64 {
	if j.to == nil {
		j.to = make(map[string]*int64)
	}
	if j.to[writer] == nil {
		j.to[writer] = new(int64)
	}
	return j.to[writer]
}

// sorted returns the jumps by writer and number.
func (j *jumps) sorted() []jump {
	slices.SortFunc(j.list, func(a, b jump) int {
		return cmp.Or(cmp.Compare(a.writer, b.writer), cmp.Compare(a.first, b.first))
	})
	return j.list
}
