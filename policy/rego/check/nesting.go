package check

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNested bounds nested comprehensions. The type checker of OPA 1.22 checks the
// innermost twice for each level around it: 16 levels take 15 seconds.
const maxNested = 8

// Nesting finds comprehensions that are nested too deeply to be compiled.
func Nesting(m *ast.Module) []Finding {
	w := &nesting{}
	for _, rule := range m.Rules {
		w.rule = rule
		w.visit(rule)
	}
	return w.found
}

type nesting struct {
	rule  *ast.Rule
	depth int
	found []Finding
}

func (w *nesting) visit(x any) { ast.NewGenericVisitor(w.step).Walk(x) }

func (w *nesting) step(x any) bool {
	var loc *ast.Location
	switch x := x.(type) {
	case *ast.ArrayComprehension:
		loc = x.Term.Location
	case *ast.SetComprehension:
		loc = x.Term.Location
	case *ast.ObjectComprehension:
		loc = x.Key.Location
	default:
		return false
	}
	if w.depth == maxNested {
		w.found = append(w.found, at(loc, w.rule.Location, fmt.Sprintf("more than %d comprehensions stand in one another", maxNested), "give the inner ones rules of their own"))
		return true
	}
	w.depth++
	switch x := x.(type) {
	case *ast.ArrayComprehension:
		w.visit(x.Term)
		w.visit(x.Body)
	case *ast.SetComprehension:
		w.visit(x.Term)
		w.visit(x.Body)
	case *ast.ObjectComprehension:
		w.visit(x.Key)
		w.visit(x.Value)
		w.visit(x.Body)
	}
	w.depth--
	return true
}
