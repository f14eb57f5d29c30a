package auditcmd

import (
	"bufio"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// formats are what an answer can be written as.
var formats = []string{"table", "json", "csv"}

// event is a row of an answer; see [auditreader.Row].
type event interface {
	Len() int
	Name(i int) string
	JSON(b []byte, i int) []byte
	Text(i int) string
}

// rowWriter writes an answer row by row. Nothing that it writes moves a
// terminal's cursor, whatever host or branch a client chose.
type rowWriter struct {
	w       *bufio.Writer
	write   func(event) error
	finish  func() error
	line    []byte
	columns []string
}

func newRowWriter(format string, w *bufio.Writer, columns []string) *rowWriter {
	if len(columns) == 0 {
		columns = auditreader.Columns(false)
	}
	o := &rowWriter{w: w, columns: columns, finish: func() error { return nil }}
	switch format {
	case "json":
		o.write = o.json
	case "csv":
		c := audit.NewCSV(w)
		o.write = func(e event) error { return c.Write(cellsOf(e)...) }
		o.finish = func() error { return nil }
		_ = c.Write(columns...) // kept by w, which has the error at its next write
	default:
		t := &streamedTable{w: w, head: columns}
		o.write = func(e event) error { return t.row(tableTexts(e)) }
		o.finish = t.close
	}
	return o
}

func (o *rowWriter) row(r auditreader.Row) error { return o.write(r) }

func (o *rowWriter) close() error { return o.finish() }

// json writes a line with all columns, null where there is nothing.
func (o *rowWriter) json(e event) error {
	b := append(o.line[:0], '{')
	for i := range e.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, e.Name(i)...)
		b = append(b, '"', ':')
		b = e.JSON(b, i)
	}
	o.line = append(b, '}', '\n')
	_, err := o.w.Write(o.line)
	return err
}

func cellsOf(e event) []string {
	cells := make([]string, e.Len())
	for i := range cells {
		cells[i] = e.Text(i)
	}
	return cells
}

// tableTexts are the values as people read them.
func tableTexts(e event) []string {
	cells := cellsOf(e)
	for i, cell := range cells {
		switch e.Name(i) {
		case "duration":
			if n, err := strconv.ParseInt(cell, 10, 64); err == nil {
				cells[i] = (time.Duration(n) * time.Microsecond).String()
			}
		case "rules", "exceptions", "addresses":
			var list []string
			if json.Unmarshal([]byte(cell), &list) == nil {
				cells[i] = cli.JoinList(list)
			}
		}
	}
	return cells
}

// tableRows is how many rows a table checks before it settles the width of its
// columns: what is longer later moves what follows it, and nothing is cut off.
const tableRows = 200

// streamedTable writes a table of any length in constant memory.
type streamedTable struct {
	w      *bufio.Writer
	head   []string
	first  [][]string
	widths []int
	any    bool
}

func (t *streamedTable) row(cells []string) error {
	for i, cell := range cells {
		if cells[i] = audit.Text(cell, math.MaxInt); cell == "" {
			cells[i] = "-"
		}
	}
	t.any = true
	if t.widths == nil {
		if t.first = append(t.first, cells); len(t.first) < tableRows {
			return nil
		}
		return t.settle()
	}
	return t.print(cells)
}

// settle takes the widths of what has come so far, and writes it.
func (t *streamedTable) settle() error {
	t.widths = make([]int, len(t.head))
	rows := append([][]string{upper(t.head)}, t.first...)
	for _, cells := range rows {
		for i, cell := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	t.first = nil
	for _, cells := range rows {
		if err := t.print(cells); err != nil {
			return err
		}
	}
	return nil
}

func upper(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strings.ToUpper(strings.ReplaceAll(name, "_", " "))
	}
	return list
}

func (t *streamedTable) print(cells []string) error {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0)+2))
		}
	}
	b.WriteByte('\n')
	_, err := t.w.WriteString(b.String())
	return err
}

func (t *streamedTable) close() error {
	if t.widths == nil && t.any {
		return t.settle()
	}
	return nil
}
