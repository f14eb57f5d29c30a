package check

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const idleHint = `compare it, as in egress.allow == set(), or count(egress.deny) == 1`

// IdleTests finds tests that cannot fail, and conditions of tests that always hold. An
// empty set is a value, and so is a count of 0.
// compiled are all files of the unit as they are evaluated, tests the paths of those
// with tests.
func IdleTests(compiled map[string]*ast.Module, tests []string) []Finding {
	m := newMachine(compiled, "")
	var list []Finding
	for _, path := range tests {
		module := compiled[path]
		if module == nil {
			continue
		}
		for _, rule := range module.Rules {
			if !strings.HasPrefix(RuleName(rule), "test_") {
				continue
			}
			before := len(list)
			for r := rule; r != nil; r = r.Else {
				list = append(list, m.idle(r)...)
			}
			if r := m.chain(rule); len(list) == before && (r.kind == isDefined || r.kind == isKnown) && r.holds().kind != isUndefined {
				f := at(rule.Head.Location, rule.Location, "the test "+RuleName(rule)+" cannot fail", idleHint)
				f.Warning = true
				list = append(list, f)
			}
		}
	}
	sortFindings(list)
	return list
}

// idle are the conditions of a body that always hold.
func (m *machine) idle(rule *ast.Rule) []Finding {
	var list []Finding
	scope := &names{of: map[ast.Var]result{}}
	for _, e := range rule.Body {
		condition := isCondition(e, scope)
		r := m.expr(e, scope)
		if !condition || r.kind != isDefined && r.kind != isKnown {
			continue
		}
		f := at(e.Location, rule.Location, "this condition always holds, so the test does not need it to pass", idleHint)
		f.Warning = true
		list = append(list, f)
	}
	return list
}

// isCondition reports whether an expression is written to hold or not: no literal
// true, and nothing that gives a name a value.
func isCondition(e *ast.Expr, scope *names) bool {
	switch terms := e.Terms.(type) {
	case *ast.Term:
		_, literal := terms.Value.(ast.Boolean)
		return !literal
	case []*ast.Term:
		if len(terms) == 0 {
			return false
		}
		name := terms[0].String()
		if strings.Contains(name, "print") {
			return false
		}
		for _, t := range terms[1:] {
			if v, ok := t.Value.(ast.Var); ok {
				if _, bound := scope.get(v); !bound {
					return false // gives it a value
				}
			}
		}
		return true
	}
	return false
}
