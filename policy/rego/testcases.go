package rego

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// maxCases bounds the results of one test.
const maxCases = 1000

// resultsOf are the results of a test: one for each case of a test with a table,
// test_hosts[name] if { some name, c in {…}; … }, and one for every other test.
func resultsOf(r *tester.Result, modules map[string]*ast.Module) []TestResult {
	whole := result(r)
	rule := testRule(whole, modules)
	if r.Error != nil || rule == nil || len(rule.Head.Ref()) < 2 || rule.Head.RuleKind() == ast.MultiValue {
		return []TestResult{whole}
	}
	var cases []TestResult
	for names, sub := range r.SubResults.Iter {
		if len(sub.SubResults) > 0 {
			continue // its own cases follow
		}
		c := whole
		c.Name, c.Passed, c.Output = r.Name+"/"+strings.Join(names, "/"), !sub.Fail, ""
		c.Line = caseLine(rule, names, whole.Line)
		if !c.Passed {
			c.Message = fmt.Sprintf("the case %q failed", strings.Join(names, "/"))
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		whole.Passed, whole.Message = false, "no case was run: its table is empty, or a condition before its cases never holds"
		return []TestResult{whole}
	}
	// Those that failed first, in case there are too many.
	slices.SortFunc(cases, func(a, b TestResult) int {
		if a.Passed != b.Passed {
			if b.Passed {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	n := len(cases)
	cases = cases[:min(n, maxCases)]
	for i := range cases {
		cases[i].Duration = (whole.Duration / time.Duration(n)).Round(time.Microsecond)
	}
	cases[0].Output = whole.Output
	return cases
}

// testRule is the rule of a test's result.
func testRule(t TestResult, modules map[string]*ast.Module) *ast.Rule {
	m := modules[t.File]
	if m == nil {
		return nil
	}
	for _, rule := range m.Rules {
		if check.RuleName(rule) == t.Name && rule.Location != nil && rule.Location.Row == t.Line {
			return rule
		}
	}
	return nil
}

// caseLine is the line with the name of a case, the innermost first; that of the test if
// no line has it.
func caseLine(rule *ast.Rule, names []string, line int) int {
	for _, name := range slices.Backward(names) {
		found := 0
		ast.WalkTerms(rule, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok && found == 0 && string(s) == name && t.Location != nil {
				found = t.Location.Row
			}
			return found != 0
		})
		if found != 0 {
			return found
		}
	}
	return line
}

func result(r *tester.Result) TestResult {
	t := TestResult{
		Package: strings.TrimPrefix(r.Package, "data."), Name: r.Name, Passed: r.Pass(),
		Output: string(r.Output), Duration: r.Duration,
	}
	if r.Location != nil {
		t.File, t.Line = r.Location.File, r.Location.Row
	}
	switch {
	case r.Error == nil:
	case topdown.IsCancel(r.Error):
		t.Retry = true
		t.Message = fmt.Sprintf("it was canceled after %v: a test has %v, so give it less to evaluate", t.Duration.Round(time.Millisecond), testTimeout)
	default:
		t.Message = r.Error.Error()
	}
	return t
}
