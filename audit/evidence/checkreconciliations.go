package evidence

import (
	"bufio"
	"errors"
	"io/fs"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// reconciliations reads the findings again and holds them against the events.
func (c *checker) reconciliations() error {
	file, err := c.root.Open(pack.ReconciliationsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", pack.ReconciliationsFile)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<16), pack.MaxLine)
	n, more, leaf, row := 0, true, int64(-1), ""
	next := func() error {
		if more = in.Scan(); !more {
			return in.Err()
		}
		n++
		if leaf, row, err = pack.ReadFinding(in.Bytes()); err != nil {
			return wrong("%s: line %d: %v", pack.ReconciliationsFile, n, err)
		}
		return c.ctx.Err()
	}
	if err := next(); err != nil {
		return err
	}
	for _, r := range c.counted.Reconciled {
		var rows []string
		for more && leaf == r.Leaf {
			rows = append(rows, row)
			if err := next(); err != nil {
				return err
			}
		}
		c.counted.AddFindings(r, rows)
		if !r.Unchanged && c.m.Sound && c.counted.ShowsKey(r.Writer, &c.manifestFacts) {
			return wrong("%s: %s", pack.ReconciliationsFile, r.Damage())
		}
	}
	if more {
		return wrong("%s: line %d is of no reconciliation in its place", pack.ReconciliationsFile, n)
	}
	return nil
}
