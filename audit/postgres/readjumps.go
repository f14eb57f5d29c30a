package postgres

import (
	"maps"
	"slices"
)

// jumps are the numbers that the leaves of a writer step over: declared gaps, in
// a sound log.
type jumps struct {
	to   map[string]int64 // the last number of each writer so far
	list []jump
}

type jump struct {
	writer      string
	first, last int64
}

// add takes the numbers of the next window.
func (j *jumps) add(r *ranges) {
	if j.to == nil {
		j.to = make(map[string]int64)
	}
	for i, writer := range r.writers {
		if r.slots[i] == nil {
			j.step(writer, r.from[i])
			j.to[writer] = max(j.to[writer], r.to[i])
			continue
		}
		for _, sequence := range slices.Sorted(maps.Keys(r.slots[i])) {
			j.step(writer, sequence)
			j.to[writer] = max(j.to[writer], sequence)
		}
	}
}

func (j *jumps) step(writer string, sequence int64) {
	if before := j.to[writer]; sequence > before+1 {
		j.list = append(j.list, jump{writer, before + 1, sequence - 1})
	}
}
