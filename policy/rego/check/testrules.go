package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// testFiles is the state of the checks of tests.
type testFiles struct {
	unit    *Unit
	pkg     ast.Ref // that tests may have instead of the unit's own
	modules map[string]*ast.Module
	paths   []string
	rules   map[string][]*ast.Rule // of the test files, by their names
	names   map[string]bool        // of the deciding rules
	ids     []string               // of the entries
	reads   []string               // documents that the deciding rules read
	checked map[string]string      // texts that were compared with the ids, and the nearest
	steps   int                    // of following inputs
	found   []Finding
}

// Bounds on what a test file may make the checks do: its author is not trusted.
const (
	maxCompared   = 200_000 // names that are compared
	maxInputSteps = 20_000
)

// TestFiles finds tests that are not run, and tests that pass for another reason than
// the one that is meant: without an input, with an input that no request has, or with a
// misspelled name. modules are all files of the unit after OPA has resolved names, paths
// those with tests, and pkg the package that tests may have.
func TestFiles(u *Unit, pkg ast.Ref, modules map[string]*ast.Module, paths []string) []Finding {
	t := &testFiles{unit: u, pkg: pkg, modules: modules, paths: paths, rules: map[string][]*ast.Rule{}, names: map[string]bool{}, checked: map[string]string{}}
	for _, path := range paths {
		for _, rule := range modules[path].Rules {
			t.rules[RuleName(rule)] = append(t.rules[RuleName(rule)], rule)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			t.names[RuleName(rule)] = true
			t.noteID(rule)
		}
		ast.WalkRefs(u.Resolved[path], func(ref ast.Ref) bool {
			if at := documentPath(ref); at != "" {
				t.reads = append(t.reads, at)
			}
			return false
		})
	}
	slices.Sort(t.reads)
	t.reads = slices.Compact(t.reads)
	slices.Sort(t.ids)
	t.ids = slices.Compact(t.ids)
	t.unrun()
	for _, path := range paths {
		for _, rule := range modules[path].Rules {
			for r := rule; r != nil; r = r.Else {
				t.rule(r, path)
			}
		}
	}
	sortFindings(t.found)
	return t.found
}

// UndefinedRules finds references of deciding files to rules of the unit's own package
// that do not exist. They never have a value.
func UndefinedRules(u *Unit) []Finding {
	t := &testFiles{unit: u, names: map[string]bool{}}
	for _, m := range u.Resolved {
		for _, rule := range m.Rules {
			t.names[RuleName(rule)] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			t.undefined(rule)
		}
	}
	sortFindings(t.found)
	return t.found
}

func (t *testFiles) noteID(rule *ast.Rule) {
	if rule.Head.Key == nil {
		return
	}
	if entry, ok := rule.Head.Key.Value.(ast.Object); ok {
		if id := entry.Get(ast.StringTerm("rule")); id != nil {
			if s, ok := id.Value.(ast.String); ok {
				t.ids = append(t.ids, string(s))
			}
		}
	}
}

func (t *testFiles) report(loc, fallback *ast.Location, warning bool, message, hint string) {
	if len(t.found) < maxFindings {
		f := at(loc, fallback, message, hint)
		f.Warning = warning
		t.found = append(t.found, f)
	}
}

// documentPath is the literal path of a reference to a document; empty if it is to
// something else.
func documentPath(ref ast.Ref) string {
	if !ref.HasPrefix(ast.DefaultRootRef) {
		return ""
	}
	var names []string
	for _, part := range ref[1:] {
		s, ok := part.Value.(ast.String)
		if !ok {
			break
		}
		names = append(names, string(s))
	}
	if len(names) == 0 || names[0] == "sallyport" {
		return ""
	}
	return "data." + strings.Join(names, ".")
}

// unrun finds rules of test files that are neither run nor read.
func (t *testFiles) unrun() {
	read := map[string]bool{}
	for _, path := range t.paths {
		for _, rule := range t.modules[path].Rules {
			ast.WalkRefs(rule, func(ref ast.Ref) bool {
				for _, pkg := range []ast.Ref{t.pkg, t.unit.Package} {
					if ref.HasPrefix(pkg) && len(ref) > len(pkg) {
						if s, ok := ref[len(pkg)].Value.(ast.String); ok && string(s) != RuleName(rule) {
							read[string(s)] = true
						}
					}
				}
				return false
			})
		}
	}
	for name, rules := range t.rules {
		if strings.HasPrefix(name, "test_") || strings.HasPrefix(name, "todo_test_") || read[name] {
			continue
		}
		near := strings.HasPrefix(strings.ToLower(name), "test") || nearest.Distance(strings.ToLower(name[:min(len(name), 5)]), "test_") <= 2
		if near {
			t.report(rules[0].Head.Location, rules[0].Location, false, name+" is not run: a test has a name that begins with test_", "name it "+testName(name))
		} else {
			t.report(rules[0].Head.Location, rules[0].Location, true, "no test reads "+name, "remove it, or name it test_"+name+" if it is a test")
		}
	}
}

func testName(name string) string {
	rest := name[min(len(name), 4):]
	if _, after, ok := strings.Cut(name, "_"); ok {
		rest = after
	}
	return "test_" + strings.TrimLeft(rest, "_")
}

func (t *testFiles) rule(rule *ast.Rule, path string) {
	t.undefined(rule)
	ast.WalkWiths(rule, func(w *ast.With) bool {
		t.with(w, rule)
		return false
	})
	if !strings.HasPrefix(RuleName(rule), "test_") {
		return
	}
	conditions := 0
	for _, e := range rule.Body {
		if !e.IsAssignment() {
			conditions++
		}
	}
	for _, e := range rule.Body {
		t.input(e, rule)
		t.always(e, rule)
		t.misspelledIDs(e, rule)
		if every, ok := e.Terms.(*ast.Every); ok && conditions == 1 && t.isSet(every.Domain, rule) {
			t.report(e.Location, rule.Location, true, "this holds for an empty set as well, so the test does not need an entry to pass", idleHint)
		}
	}
}

// isSet reports whether a term is one of the unit's sets, or a name for one.
func (t *testFiles) isSet(term *ast.Term, rule *ast.Rule) bool {
	switch v := term.Value.(type) {
	case ast.Ref:
		name, whole, ok := t.unit.ownName(v)
		return ok && !whole && slices.Contains(t.unit.Sets, name)
	case ast.Var:
		for _, e := range rule.Body {
			if e.IsAssignment() && e.Operand(0).Equal(term) && !e.Operand(1).Equal(term) {
				return t.isSet(e.Operand(1), rule)
			}
		}
	}
	return false
}

// undefined finds references to rules of the unit's own package that do not exist.
func (t *testFiles) undefined(rule *ast.Rule) {
	ast.WalkTerms(rule, func(term *ast.Term) bool {
		ref, ok := term.Value.(ast.Ref)
		if !ok {
			return false
		}
		name, whole, own := t.unit.ownName(ref)
		if !own || whole || t.names[name] || slices.Contains(t.unit.Sets, name) || len(t.rules[name]) > 0 {
			return false
		}
		known := slices.Clone(t.unit.Sets)
		for n := range t.names {
			known = append(known, n)
		}
		slices.Sort(known)
		hint := "the policy has " + strings.Join(slices.Compact(known)[:min(len(slices.Compact(known)), 20)], ", ")
		if n := nearest.Of(name, known); n != "" {
			hint = "did you mean " + n + "?"
		}
		t.report(term.Location, rule.Location, false, "there is no rule "+name+", so this never has a value", hint)
		return false
	})
}

// input warns of a test that reads a set without an input: no rule that reads the input
// can match.
func (t *testFiles) input(e *ast.Expr, rule *ast.Rule) {
	if givesInput(e) {
		return
	}
	asked := ""
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			return x != e && givesInput(x)
		case ast.Ref:
			if name, whole, ok := t.unit.ownName(x); ok && !whole && slices.Contains(t.unit.Sets, name) {
				asked = name
			}
		}
		return false
	}).Walk(e)
	if asked != "" {
		t.report(e.Location, rule.Location, true, "the test reads "+asked+" without an input, so no rule that reads the input matches", t.unit.Subject.example())
	}
}

func givesInput(e *ast.Expr) bool {
	return slices.ContainsFunc(e.With, func(w *ast.With) bool {
		ref, ok := w.Target.Value.(ast.Ref)
		return ok && ref.HasPrefix(ast.InputRootRef)
	})
}

// always warns of comparisons of a value with itself, and of counts with a number that is
// never greater.
func (t *testFiles) always(e *ast.Expr, rule *ast.Rule) {
	if !e.IsCall() || e.Negated || len(e.Operands()) != 2 {
		return
	}
	left, right := e.Operand(0), e.Operand(1)
	operator := e.Operator().String()
	idle := false
	switch operator {
	case ast.Equality.Name, ast.Equal.Name:
		idle = left.Equal(right)
	case ast.GreaterThanEq.Name, ast.GreaterThan.Name, ast.NotEqual.Name:
		call, ok := left.Value.(ast.Call)
		n, isNumber := right.Value.(ast.Number)
		if ok && isNumber && call[0].String() == ast.Count.Name {
			number, exact := n.Int()
			idle = exact && (number < 0 || number == 0 && operator == ast.GreaterThanEq.Name)
		}
	}
	if idle {
		t.report(e.Location, rule.Location, true, "this condition always holds, so the test does not need it to pass", idleHint)
	}
}

// misspelledIDs warns of a text that is similar to the id of a rule without being one.
func (t *testFiles) misspelledIDs(e *ast.Expr, rule *ast.Rule) {
	bare := *e
	bare.With = nil
	ast.WalkTerms(&bare, func(term *ast.Term) bool {
		s, ok := term.Value.(ast.String)
		if !ok || len(s) < 5 || len(s) > 128 {
			return false
		}
		if n := t.nearestID(string(s)); n != "" {
			t.report(term.Location, rule.Location, true, fmt.Sprintf("no rule has the id %q", string(s)), fmt.Sprintf("did you mean %q?", n))
		}
		return false
	})
}

// nearestID is an id that differs from a text in one or two bytes; empty if the text is
// an id, or if none is so near.
func (t *testFiles) nearestID(s string) string {
	if n, ok := t.checked[s]; ok || len(t.checked)*len(t.ids) > maxCompared {
		return n
	}
	found := ""
	if _, is := slices.BinarySearch(t.ids, s); !is {
		for _, id := range t.ids {
			if found == "" && len(id) <= len(s)+2 && len(s) <= len(id)+2 && nearest.Distance(s, id) <= 2 {
				found = id
			}
		}
	}
	t.checked[s] = found
	return found
}
