package pack

import (
	"io"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// A Table is one table of a report. The report shows its first rows, the CSV all.
type Table struct {
	Name    string // of its CSV, without folder and ending
	Title   string
	Note    string // what a reader has to know of it
	Columns []string
	Extra   int // of the columns, the last ones that only the CSV has
	Rows    [][]string
}

// Limits of tables. Requests for a million different names must not exhaust
// memory while a pack is made: what is over the limit is counted in one row.
const (
	MaxRows   = 50_000
	shownRows = 200
)

// Head are the columns that the report shows.
func (t Table) Head() []string { return t.Columns[:len(t.Columns)-t.Extra] }

// Shown are the rows that the report shows.
func (t Table) Shown() [][]string {
	rows := slices.Clone(t.Rows[:min(len(t.Rows), shownRows)])
	for i := range rows {
		rows[i] = rows[i][:len(rows[i])-t.Extra]
	}
	return rows
}

// More is how many rows are in the CSV only.
func (t Table) More() int { return max(len(t.Rows)-shownRows, 0) }

func (t Table) Write(w io.Writer) error {
	c := audit.NewCSV(w)
	if err := c.Write(t.Columns...); err != nil {
		return err
	}
	for _, r := range t.Rows {
		if err := c.Write(r...); err != nil {
			return err
		}
	}
	return nil
}
