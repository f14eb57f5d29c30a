package report

import (
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestEscapingIsNeeded: a template that does not escape shows the markup.
func TestEscapingIsNeeded(t *testing.T) {
	plain := texttemplate.Must(texttemplate.New("report").Funcs(texttemplate.FuncMap(functions)).Parse(reportText))
	var b strings.Builder
	if err := plain.ExecuteTemplate(&b, "table", pack.Table{Title: "t", Columns: []string{"host"}, Rows: [][]string{{"<script>alert(1)</script>"}}}); err != nil || !strings.Contains(b.String(), "<td><script>") {
		t.Errorf("the attack fails without the control as well: %v", err)
	}
}
