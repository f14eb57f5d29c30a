package evidence

import (
	"io"
	"slices"
	"strings"

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

// Limits of tables. Who asks for a million different names must not fill the
// memory of whoever makes the pack: what is over the limit is counted in one row.
const (
	maxRows   = 50_000
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

func (t Table) write(w io.Writer) error {
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

// groups counts by keys, in the order in which they first came, up to mostRows
// keys. What follows is counted in one more.
type groups[V any] struct {
	at   map[string]*V
	keys []string
	rest *V
}

// of is what is counted for a key; others reports that it is what is over the limit.
func (g *groups[V]) of(key ...string) (v *V, fresh bool) {
	joined := strings.Join(key, "\x00") // no record holds a zero byte
	if v := g.at[joined]; v != nil {
		return v, false
	}
	if len(g.at) >= maxRows {
		if g.rest == nil {
			g.rest = new(V)
		}
		return g.rest, false
	}
	if g.at == nil {
		g.at = make(map[string]*V)
	}
	v = new(V)
	g.at[joined] = v
	g.keys = append(g.keys, joined)
	return v, true
}

// each gives all groups, the one of what is over the limit last, without a key.
func (g *groups[V]) each(f func(key []string, v *V)) {
	for _, k := range g.keys {
		f(strings.Split(k, "\x00"), g.at[k])
	}
	if g.rest != nil {
		f(nil, g.rest)
	}
}

// names is a small set of names, in the order of the alphabet.
type names []string

// maxNames bounds what stands in one cell.
const maxNames = 20

func (n *names) add(name string) {
	if name == "" || len(*n) > maxNames {
		return
	}
	at, found := slices.BinarySearch(*n, name)
	if !found {
		*n = slices.Insert(*n, at, name)
	}
}

func (n names) String() string {
	if len(n) > maxNames {
		return strings.Join(n[:maxNames], ", ") + ", …"
	}
	return strings.Join(n, ", ")
}
