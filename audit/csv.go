package audit

import (
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// CSV writes rows that a spreadsheet takes for text, regardless of who chose what is in
// them (OWASP, "CSV Injection"). Every cell is quoted (RFC 4180 section 2), and
// lines end with CR LF. Within a cell
//
//   - control characters and those that hide or move text are escaped, as [Text]
//     does in the log itself: no cell has a line break or a tab;
//   - an apostrophe stands before what a spreadsheet would compute: before =, +,
//     -, @ and their full-width forms, spaces and quotes before them or not, at the
//     beginning of the cell and after each comma, semicolon and bar, where a
//     program with another idea of the separator begins a cell; and before an
//     apostrophe in these places, so that [Uncell] can take away what was added.
//
// It is not safe for concurrent use.
type CSV struct {
	w    io.Writer
	line []byte
}

// NewCSV writes to w, one call of Write for each row.
func NewCSV(w io.Writer) *CSV { return &CSV{w: w} }

// Write writes a row.
func (c *CSV) Write(cells ...string) error {
	b := c.line[:0]
	for i, cell := range cells {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = appendCell(b, cell)
		b = append(b, '"')
	}
	c.line = append(b, '\r', '\n')
	_, err := c.w.Write(c.line)
	return err
}

// appendCell appends a cell without the quotation marks around it.
func appendCell(b []byte, cell string) []byte {
	cell = Text(cell, math.MaxInt)
	begin := true
	for i := range len(cell) {
		if begin && computed(cell[i:]) {
			b = append(b, '\'')
		}
		switch c := cell[i]; c {
		case '"':
			b, begin = append(b, '"', '"'), false
		default:
			b, begin = append(b, c), separates(c)
		}
	}
	return b
}

// Uncell returns what was written as a cell, given what a reader of CSV has read.
// What [CSV.Write] escaped stays escaped.
func Uncell(read string) string {
	if !strings.Contains(read, "'") {
		return read
	}
	var b strings.Builder
	begin := true
	for i := range len(read) {
		if begin && read[i] == '\'' {
			begin = false
			continue
		}
		b.WriteByte(read[i])
		begin = separates(read[i])
	}
	return b.String()
}

// separates reports whether some program begins a new cell after this byte.
func separates(c byte) bool { return c == ',' || c == ';' || c == '|' }

// computed reports whether a spreadsheet might compute what begins so, or would
// take our apostrophe for its own.
func computed(s string) bool {
	if strings.HasPrefix(s, "'") {
		return true
	}
	s = strings.TrimLeft(s, "\" \u00a0\u3000")
	r, _ := utf8.DecodeRuneInString(s)
	switch r {
	case '=', '+', '-', '@', '＝', '＋', '－', '＠', '−':
		return true
	}
	return false
}
