package evidence

import (
	"bufio"
	"errors"
	"io/fs"
)

// reconciliations reads the findings again and holds them against the events.
func (c *checker) reconciliations() error {
	file, err := c.root.Open(reconciliationsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", reconciliationsFile)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<16), maxLine)
	n, more, leaf, row := 0, true, int64(-1), ""
	next := func() error {
		if more = in.Scan(); !more {
			return in.Err()
		}
		n++
		if leaf, row, err = readFoundLine(in.Bytes()); err != nil {
			return wrong("%s: line %d: %v", reconciliationsFile, n, err)
		}
		return c.ctx.Err()
	}
	if err := next(); err != nil {
		return err
	}
	for _, r := range c.taken.reconciled {
		var rows []string
		for more && leaf == r.leaf {
			rows = append(rows, row)
			if err := next(); err != nil {
				return err
			}
		}
		c.taken.found(r, rows)
		if !r.unchanged && c.m.Sound {
			return wrong("%s: %s", reconciliationsFile, r.changed())
		}
	}
	if more {
		return wrong("%s: line %d is of no reconciliation in its place", reconciliationsFile, n)
	}
	return nil
}
