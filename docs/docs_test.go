package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/webhook"
)

func TestMain(m *testing.M) {
	rego.ServeWorker()
	code := m.Run()
	if err := errors.Join(pgtest.Close(), os.RemoveAll(builtProgram.directory)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// pages are the documents that are checked, relative to this folder.
var pages = []string{
	"../README.md", "../SECURITY.md", "../CHANGELOG.md", "../CONTRIBUTING.md",
	"architecture.md", "configuration.md", "reasons.md", "operations.md", "audit.md", "audit-questions.md", "clients.md",
	"pipelines.md", "operator.md", "invariants.md", "policy.md", "policy-reference.md", "performance.md", "webhooks.md", "step.md",
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var reasonRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]{3}) \\| ([^|]+) \\| ([^|]+) \\|$")

// TestReasonsPage holds docs/reasons.md and the vocabulary together, in both
// directions, statuses included.
func TestReasonsPage(t *testing.T) {
	documented := map[string]string{}
	for _, row := range reasonRow.FindAllStringSubmatch(read(t, "reasons.md"), -1) {
		if _, twice := documented[row[1]]; twice {
			t.Errorf("reasons.md has %s twice", row[1])
		}
		documented[row[1]] = row[2]
	}
	constants := constantsOf(t, "../policy/reason.go", constantsOf(t, "../identity/errors.go", nil))
	if len(constants) < 30 {
		t.Fatalf("policy/reason.go was read as %d reasons", len(constants))
	}
	known := map[string]bool{}
	for name, reason := range constants {
		known[reason] = true
		status, found := documented[reason]
		if !found {
			t.Errorf("reasons.md has no row for %s (policy.%s)", reason, name)
			continue
		}
		want := strconv.Itoa(proxy.NewRefusal(policy.Reason(reason), "").Status)
		if reason == string(policy.PolicyAllowed) {
			want = "200"
		}
		if status != want {
			t.Errorf("reasons.md says %s for %s, and the proxy answers %s", status, reason, want)
		}
	}
	for _, reason := range constantsOf(t, "../webhook/reason.go", nil) {
		known[reason] = true
		if documented[reason] != "200" { // a verified delivery, which was recorded
			t.Errorf("reasons.md has %q for %s, want 200", documented[reason], reason)
		}
	}
	for _, problem := range constantsOf(t, "../webhook/problem.go", nil) {
		known[problem] = true
		if want := strconv.Itoa(webhook.Problem(problem).Status()); documented[problem] != want {
			t.Errorf("reasons.md has %q for %s, and a receiver answers %s", documented[problem], problem, want)
		}
	}
	for _, reason := range constantsOf(t, "../step/forwarder/reason.go", nil) {
		known[reason] = true
		if documented[reason] == "" {
			t.Errorf("reasons.md has no row for %s of the forwarder in a step", reason)
		}
	}
	for reason := range documented {
		if !known[reason] {
			t.Errorf("reasons.md has %s, which is not a reason", reason)
		}
	}
}

var closeRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]+) \\| ([^|]+) \\|$")

// TestCloseReasonsPage holds the close reasons of docs/reasons.md and the
// vocabulary together: the forced ones have a row with the words that a client
// reads, and the others are named.
func TestCloseReasonsPage(t *testing.T) {
	_, page, found := strings.Cut(read(t, "reasons.md"), "## When a tunnel or request is closed")
	if !found {
		t.Fatal("reasons.md has no section on close reasons")
	}
	documented := map[string]bool{}
	for _, row := range closeRow.FindAllStringSubmatch(page, -1) {
		documented[row[1]] = true
		explained, forced := proxy.Cause(row[1]).Explain()
		if !forced || !strings.EqualFold(row[2], explained.What+".") || !strings.EqualFold(row[3], explained.Next+".") {
			t.Errorf("reasons.md has %q and %q for %s, and a client reads %+v", row[2], row[3], row[1], explained)
		}
	}
	causes := constantsOf(t, "../proxy/cause.go", nil)
	if len(causes) < 30 || len(documented) < 15 {
		t.Fatalf("%d causes, %d rows", len(causes), len(documented))
	}
	for name, cause := range causes {
		_, forced := proxy.Cause(cause).Explain()
		if forced != documented[cause] || !strings.Contains(page, "`"+cause+"`") {
			t.Errorf("%s (proxy.%s): forced %v, a row %v, named %v", cause, name, forced, documented[cause], strings.Contains(page, "`"+cause+"`"))
		}
	}
}

// constantsOf reads the string constants of a file by name: literals, and
// conversions such as Reason(identity.X) of what is in others.
func constantsOf(t *testing.T, path string, others map[string]string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		switch v := spec.Values[0].(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(v.Value); err == nil {
				found[spec.Names[0].Name] = text
			}
		case *ast.CallExpr:
			if selector, ok := v.Args[0].(*ast.SelectorExpr); ok {
				found[spec.Names[0].Name] = others[selector.Sel.Name]
			}
		}
		return true
	})
	return found
}

var namedTest = regexp.MustCompile("`((?:[a-z0-9]+/)*[a-z0-9]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")

var (
	invariant    = regexp.MustCompile(`(?m)^(\d+)\. `)
	invariantRow = regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`)
)

// TestInvariantsNameTestsThatExist compares SECURITY.md with invariants.md: the same
// numbers in order, each with at least one test, and each test exists.
func TestInvariantsNameTestsThatExist(t *testing.T) {
	numbers := invariant.FindAllStringSubmatch(read(t, "../SECURITY.md"), -1)
	rows := invariantRow.FindAllStringSubmatch(read(t, "invariants.md"), -1)
	if len(numbers) < 80 || len(numbers) != len(rows) {
		t.Fatalf("SECURITY.md was read as %d invariants, invariants.md as %d rows", len(numbers), len(rows))
	}
	for i, row := range rows {
		if want := strconv.Itoa(i + 1); numbers[i][1] != want || row[1] != want {
			t.Errorf("invariant %s has the number %s in SECURITY.md and %s in invariants.md", want, numbers[i][1], row[1])
		}
		tests := namedTest.FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 {
			t.Errorf("invariants.md names no test for invariant %s", row[1])
		}
		for _, name := range tests {
			if !hasTest(t, name[1], name[2]) {
				t.Errorf("invariants.md names %s.%s, which does not exist", name[1], name[2])
			}
		}
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func ` + name + `\(`)
	for _, file := range files {
		if function.MatchString(read(t, file)) {
			return true
		}
	}
	return false
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinksLeadSomewhere follows the links inside the repository, and to headings
// of pages.
func TestLinksLeadSomewhere(t *testing.T) {
	decisions, err := filepath.Glob("adr/*.md")
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions in docs/adr: %v", err)
	}
	for _, page := range append(decisions, pages...) {
		text := read(t, page)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			to, anchor, _ := strings.Cut(found[1], "#")
			switch {
			case strings.Contains(to, "://"), strings.HasPrefix(to, "mailto:"):
			case to == "" && !headings(text)[anchor]:
				t.Errorf("%s has no heading #%s", page, anchor)
			case to != "":
				file := filepath.Join(filepath.Dir(page), filepath.FromSlash(to))
				if _, err := os.Stat(file); err != nil {
					t.Errorf("%s links to %s: %v", page, to, err)
				} else if anchor != "" && strings.HasSuffix(file, ".md") && !headings(read(t, file))[anchor] {
					t.Errorf("%s links to %s, which has no heading #%s", page, to, anchor)
				}
			}
		}
	}
}

// headings are a page's headings, as links name them.
func headings(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all[strings.ReplaceAll(name, " ", "-")] = true
	}
	return all
}
