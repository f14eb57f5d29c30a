// Package reads finds the parts of an input that rules can read, and whether the rules can
// read the clock: from compiled rules, and from the text of rules that this process must not
// parse. Both analyses return at least all that the rules read.
package reads

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/paths"
)

// Rules describe what a group of rules can read of the values that vary between two
// evaluations of one revision.
type Rules struct {
	Input paths.Tree
	// Clock is set if the rules can read the time of the evaluation other than as a part
	// of the input, or call another function whose result varies.
	Clock bool
}

// Merge adds what other rules can read; nil adds nothing.
func (r *Rules) Merge(other *Rules) {
	if other == nil {
		return
	}
	r.Input.Merge(&other.Input)
	r.Clock = r.Clock || other.Clock
}

// OfModules returns what modules can read. If a compiler has resolved them, every
// reference to the input begins with input, however it was written: a variable that holds a
// part of the input was assigned a reference to that part.
//
// The literal names at the beginning of a reference count. Its value at an evaluation is
// determined by the value at that path, or by its absence.
func OfModules(modules map[string]*ast.Module) *Rules {
	r := &Rules{}
	for _, m := range modules {
		for _, rule := range m.Rules {
			r.add(rule)
		}
	}
	return r
}

// OfRule returns what one rule can read.
func OfRule(rule *ast.Rule) *Rules {
	r := &Rules{}
	r.add(rule)
	return r
}

func (r *Rules) add(rule *ast.Rule) {
	visitor := ast.NewGenericVisitor(r.visit)
	for ; rule != nil; rule = rule.Else {
		visitor.Walk(rule.Head)
		visitor.Walk(rule.Head.Ref()) // the visitor leaves out a head that is a reference
		visitor.Walk(rule.Body)
	}
}

func (r *Rules) visit(x any) (stop bool) {
	switch x := x.(type) {
	case ast.Var:
		if x.Equal(ast.InputRootDocument.Value) {
			r.Input.Add()
		}
	case ast.Ref:
		if len(x) == 0 || !x.HasPrefix(ast.InputRootRef) {
			r.Clock = r.Clock || varies[x.String()]
			return false
		}
		r.Input.Add(literals(x[1:])...)
		for _, t := range x[1:] { // a term in brackets is a term of its own
			ast.NewGenericVisitor(r.visit).Walk(t)
		}
		return true
	}
	return false
}

// varies are OPA's functions whose results differ between two evaluations with the same
// arguments, by name.
var varies = func() map[string]bool {
	names := map[string]bool{}
	for _, b := range ast.Builtins {
		if b.Nondeterministic {
			names[b.Name] = true
		}
	}
	return names
}()

// Clocks are the names, without their packages, of OPA's functions whose results vary, and
// of the rules of a library that may call one.
func Clocks(library map[string]*ast.Module) map[string]bool {
	names := map[string]bool{}
	for name := range varies {
		names[name[strings.LastIndexByte(name, '.')+1:]] = true
	}
	for found := true; found; {
		found = false
		for _, m := range library {
			for _, rule := range m.Rules {
				name := rule.Head.Ref()[0].String()
				if !names[name] && (OfRule(rule).Clock || mentions(rule, names)) {
					names[name], found = true, true
				}
			}
		}
	}
	return names
}

// mentions reports whether a rule has one of some names, as a name or as a string.
func mentions(rule *ast.Rule, names map[string]bool) (found bool) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			found = found || names[string(x)]
		case ast.String:
			found = found || names[string(x)]
		}
		return found
	}).Walk(rule)
	return found
}

// literals are the literal names that some terms begin with.
func literals(terms []*ast.Term) []string {
	names := make([]string, 0, len(terms))
	for _, t := range terms {
		s, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		names = append(names, string(s))
	}
	return names
}
