package pack

import "math"

// A Gap is a run of numbers of one writer under which the log has nothing. A writer
// numbers its events without gaps, so that each number is an event that was lost,
// removed, or never written.
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
	// Reason its reason; empty: the gap is not explained.
	Explained string `json:"explained_by,omitempty"`
	Leaf      int64  `json:"explained_by_leaf"` // -1: none
	Reason    string `json:"reason,omitempty"`
	// Reporter is the writer of that event. Where nothing explains the gap it is a
	// writer that reports the numbers as lost and is neither the gap's writer nor
	// its successor: a claim, with its reason in Reason.
	Reporter string `json:"reported_by,omitempty"`
}

// Numbers is how many numbers are missing.
func (g *Gap) Numbers() int64 {
	if n := g.Last - g.First; n < math.MaxInt64 {
		return n + 1
	}
	return math.MaxInt64
}

// Touches reports whether what is missing may have happened in a period.
func (g *Gap) Touches(p Period) bool {
	return (g.Before == "" || !ParseTime(g.Before).Before(p.From)) && (g.After == "" || ParseTime(g.After).Before(p.To))
}

// AddSaturated adds two counts. Invented numbers can be so large that
// a sum of them wraps.
func AddSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
