package report

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// groups counts by keys, in the order in which they first came, up to pack.MaxRows
// keys. What follows is counted in one more.
type groups[V any] struct {
	at   map[string]*V
	keys []string
	rest *V
}

// Names is a small set of names, in the order of the alphabet.
type Names []string

// maxNames bounds what stands in one cell.
const maxNames = 20

func count(g *groups[int64], key ...string) {
	n, _ := g.of(key...)
	*n++
}

// counted is a table of counts, the largest first.
func counted(name, title string, g *groups[int64], columns ...string) pack.Table {
	t := pack.Table{Name: name, Title: title, Columns: append(columns, "count")}
	type row struct {
		cells []string
		n     int64
	}
	var rows []row
	g.each(func(key []string, n *int64) {
		rows = append(rows, row{overLimit(key, len(columns)), *n})
	})
	slices.SortStableFunc(rows, func(a, b row) int {
		if a.n != b.n {
			return int(min(max(b.n-a.n, -1), 1))
		}
		return strings.Compare(strings.Join(a.cells, "\x00"), strings.Join(b.cells, "\x00"))
	})
	for _, r := range rows {
		t.Rows = append(t.Rows, append(r.cells, strconv.FormatInt(r.n, 10)))
	}
	return t
}

// overLimit is a key, or what stands in its place for all that are over the limit.
func overLimit(key []string, columns int) []string {
	if key != nil {
		return key
	}
	key = make([]string, columns)
	key[0] = "(all others: too many to list; see population.csv)"
	return key
}

// sortRows orders rows by columns.
func sortRows(t *pack.Table, columns ...int) {
	slices.SortStableFunc(t.Rows, func(a, b []string) int {
		for _, c := range columns {
			if n := strings.Compare(a[c], b[c]); n != 0 {
				return n
			}
		}
		return 0
	})
}

// of is what is counted for a key; others reports that it is what is over the limit.
func (g *groups[V]) of(key ...string) (v *V, fresh bool) {
	joined := strings.Join(key, "\x00") // no record holds a zero byte
	if v := g.at[joined]; v != nil {
		return v, false
	}
	if len(g.at) >= pack.MaxRows {
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

func (n *Names) Add(name string) {
	if name == "" || len(*n) > maxNames {
		return
	}
	at, found := slices.BinarySearch(*n, name)
	if !found {
		*n = slices.Insert(*n, at, name)
	}
}

func (n Names) String() string {
	if len(n) > maxNames {
		return strings.Join(n[:maxNames], ", ") + ", …"
	}
	return strings.Join(n, ", ")
}
