package report

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestTooManyToList: more names than a table lists are counted in one row, and
// those that came first stay.
func TestTooManyToList(t *testing.T) {
	var g groups[int64]
	for n := range pack.MaxRows + 10 {
		count(&g, strconv.Itoa(n)+strings.Repeat("x", n%3))
		count(&g, "first")
	}
	table := counted("t", "T", &g, "name", "other")
	if len(table.Rows) > pack.MaxRows+1 || len(g.at) != pack.MaxRows {
		t.Errorf("%d rows", len(table.Rows))
	}
	var sum int64
	rest := 0
	for _, row := range table.Rows {
		n, err := strconv.ParseInt(row[len(row)-1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
		if strings.HasPrefix(row[0], "(all others") {
			rest++
		}
	}
	if sum != 2*(pack.MaxRows+10) || rest != 1 || table.Rows[0][0] != "first" {
		t.Errorf("%d are counted, %d rows for the rest, the first is %q", sum, rest, table.Rows[0])
	}
	if n := len(table.Shown()); n == 0 || n >= len(table.Rows) || table.More() != len(table.Rows)-n {
		t.Errorf("%d are shown, %d more", n, table.More())
	}
}
