package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

//go:embed report.tmpl
var reportText string

//go:embed style.css
var styleText string

// functions are those that templates have.
var functions = template.FuncMap{
	"moment": func(t time.Time) string {
		if t.IsZero() {
			return "–"
		}
		return t.UTC().Format("2006-01-02 15:04:05 UTC")
	},
	// cell is a text that hides and moves nothing: a record's has been made so, and
	// what comes from elsewhere has not.
	"cell":    func(s string) string { return audit.Text(s, math.MaxInt) },
	"seconds": func(n int64) string { return audit.FormatDuration(time.Duration(n) * time.Second) },
	// n is a number with its noun: of one the first form, of others the second.
	"n": func(number any, one, many string) string {
		if text := fmt.Sprint(number); text != "1" {
			return text + " " + many
		}
		return "1 " + one
	},
	// numbers is a count that may be no more than "too many".
	"numbers": func(n int64) string {
		if n == math.MaxInt64 {
			return "9223372036854775807 or more"
		}
		return strconv.FormatInt(n, 10)
	},
	"words": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
	"style": func() template.CSS { return template.CSS(styleText) },
	// source is a text of several lines that hides and moves nothing.
	"source": func(s string) string {
		lines := strings.Split(strings.ReplaceAll(s, "\t", "    "), "\n")
		for i := range lines {
			lines[i] = audit.Text(lines[i], math.MaxInt)
		}
		return strings.Join(lines, "\n")
	},
}

var pages = template.Must(template.New("report").Funcs(functions).Parse(reportText))
