package writer

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// without are the rows that have no companion.
func (g *group) without() []row {
	var rows []row
	for _, r := range g.rows {
		if r.companion == nil {
			rows = append(rows, r)
		}
	}
	return rows
}

// accompanied reports whether a row is to be written with a companion.
func (g *group) accompanied() bool {
	return g.companions > 0 && slices.ContainsFunc(g.rows, func(r row) bool { return r.companion != nil && !r.companion.dropped })
}

// dropExhausted drops companions that were written often enough, each time without a result.
// It reports whether others were written without a result: one of several may have ended the
// connection.
func (g *group) dropExhausted() (again bool) {
	if g.companions == 0 {
		return false
	}
	for _, r := range g.rows {
		c := r.companion
		if c == nil || c.dropped {
			continue
		}
		if c.attempts >= maxCompanionAttempts {
			c.drop(fmt.Errorf("%w: %d connections were lost while it ran", audit.ErrRefused, c.attempts))
		}
		again = again || c.attempts > 0
	}
	return again
}

// readCompanions sets the results of the companions after the transaction was committed.
// counts are the rows of each statement of the batch behind the events.
func (g *group) readCompanions(counts []int64) {
	counts = counts[1:] // the bounds
	for _, r := range g.rows {
		if c := r.companion; c != nil && !c.dropped {
			if c.err = nil; counts[0] == 0 {
				c.err = audit.ErrNoEffect
			}
			counts = counts[len(c.statements):]
		}
	}
}

// dropCompanions notes that the group is recorded without its companions.
func (g *group) dropCompanions(err error) {
	for i := range g.rows {
		if c := g.rows[i].companion; c != nil && !c.dropped {
			c.drop(err)
		}
	}
}
