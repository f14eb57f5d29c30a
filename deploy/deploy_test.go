package deploy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// No container engine is needed for these tests: what can be wrong without one
// being run is looked for in the files.

func TestMain(m *testing.M) { pgtest.Main(m) }

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metrics are the names that the program gives to its metrics: Name of the
// options in internal/admin, and what is added in cmd/sallyport/internal/server.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	note := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok {
			if name, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(name, "sallyport_") {
				names[name] = true
			}
		}
	}
	for _, folder := range []string{"../internal/admin", "../cmd/sallyport/internal/server", "../cmd/sallyport/internal/webhookdelivery"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Name" {
						note(n.Value)
					}
				case *ast.CallExpr:
					if f, ok := n.Fun.(*ast.SelectorExpr); ok && (strings.HasPrefix(f.Sel.Name, "Gauge") || strings.HasPrefix(f.Sel.Name, "Counter")) && len(n.Args) > 0 {
						note(n.Args[0])
					}
				}
				return true
			})
		}
	}
	if len(names) < 20 {
		t.Fatalf("the program was read as %d metrics", len(names))
	}
	return names
}

var (
	metricName = regexp.MustCompile(`\b(?:sallyport|process|go)_[a-z_]+\b|\bup\b`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(sallyport_[a-z_]+)` \\| (counter|gauge|histogram) \\| [^|]+ \\|$")
)

// TestAlertsNameMetricsThatExist keeps an alert from waiting forever for a
// metric that does not exist.
func TestAlertsNameMetricsThatExist(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "alerts.example.yaml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	// Of the client library's own collectors, and of Prometheus itself.
	known := metrics(t)
	for _, name := range []string{"process_open_fds", "process_max_fds", "up"} {
		known[name] = true
	}
	page := read(t, "../docs/operations.md")
	alerts := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			alerts++
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%+v: an alert has a name, a severity and a summary", r)
			}
			if r.For != "" {
				if _, err := time.ParseDuration(r.For); err != nil {
					t.Errorf("%s: for: %v", r.Alert, err)
				}
			}
			found := metricName.FindAllString(r.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s asks for no metric: %s", r.Alert, r.Expr)
			}
			for _, name := range found {
				if !known[name] && !known[strings.TrimSuffix(name, "_bucket")] {
					t.Errorf("%s asks for %s, which nobody gives", r.Alert, name)
				}
			}
			if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || strings.Count(r.Expr, "{") != strings.Count(r.Expr, "}") {
				t.Errorf("%s: the brackets do not match: %s", r.Alert, r.Expr)
			}
			if !strings.Contains(page, "`"+r.Alert+"`") {
				t.Errorf("docs/operations.md does not say what to do about %s", r.Alert)
			}
		}
	}
	if alerts < 10 {
		t.Errorf("the file was read as %d alerts", alerts)
	}
}

// TestOperationsPageHasEveryMetric holds its table and the program together, in
// both directions.
func TestOperationsPageHasEveryMetric(t *testing.T) {
	documented := map[string]bool{}
	for _, row := range metricRow.FindAllStringSubmatch(read(t, "../docs/operations.md"), -1) {
		if documented[row[1]] {
			t.Errorf("the table has %s twice", row[1])
		}
		documented[row[1]] = true
		if counter := strings.HasSuffix(row[1], "_total"); counter != (row[2] == "counter") {
			t.Errorf("%s is no %s", row[1], row[2])
		}
	}
	given := metrics(t)
	for name := range given {
		if !documented[name] {
			t.Errorf("docs/operations.md has no row for %s", name)
		}
	}
	for name := range documented {
		if !given[name] {
			t.Errorf("docs/operations.md has %s, which nobody gives", name)
		}
	}
}
