package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxClosures bounds the closures around a name. Deeper names are not checked.
const maxClosures = 64

// SingleNames finds names that occur once in a rule and match any value. In
// `input.principal.branch = main`, main has no value, so the condition always holds.
// The intended string needs quotes.
func SingleNames(u *Unit) []Finding {
	arity := u.functionArity()
	var found []Finding
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			for r := rule; r != nil; r = r.Else {
				w := &nameWalk{arity: arity, bound: map[ast.Var]bool{}, declared: map[ast.Var]bool{}, seen: map[ast.Var][]occurrence{}}
				w.rule(r)
				found = append(found, w.findings(r)...)
			}
		}
	}
	return found
}

// functionArity is the number of arguments of each function of the unit.
func (u *Unit) functionArity() map[string]int {
	arity := map[string]int{}
	for _, m := range u.Resolved {
		for _, rule := range m.Rules {
			if len(rule.Head.Args) > 0 {
				arity[u.Package.String()+"."+RuleName(rule)] = len(rule.Head.Args)
			}
		}
	}
	return arity
}

// How a name stands where it stands.
const (
	asOperand  = iota // any other place
	inEquation        // beside =
	asKey             // in the brackets of a reference
	asResult          // behind the last argument of a function
)

type occurrence struct {
	how     int
	closure *closure
	at      *ast.Location
}

// closure is a body with its own names: of a rule, a comprehension, or an every.
type closure struct {
	parent *closure
	depth  int
}

type nameWalk struct {
	arity    map[string]int
	closure  *closure
	how      int
	bound    map[ast.Var]bool // by an argument, :=, some … in or every
	declared map[ast.Var]bool // by some
	seen     map[ast.Var][]occurrence
}

func (w *nameWalk) rule(rule *ast.Rule) {
	w.closure = &closure{}
	for _, arg := range rule.Head.Args {
		w.bind(arg)
	}
	for _, t := range []*ast.Term{rule.Head.Key, rule.Head.Value} {
		if t != nil {
			w.visit(t)
		}
	}
	for _, t := range rule.Head.Ref()[1:] {
		w.visit(t)
	}
	w.visit(rule.Body)
}

// bind records the names in a pattern that is matched with a value.
func (w *nameWalk) bind(x any) {
	ast.WalkVars(x, func(v ast.Var) bool {
		w.bound[v] = true
		return false
	})
}

func (w *nameWalk) visit(x any) { ast.NewGenericVisitor(w.step).Walk(x) }

// as visits x with another kind of occurrence.
func (w *nameWalk) as(how int, x any) {
	old := w.how
	w.how = how
	w.visit(x)
	w.how = old
}

// within visits a closure.
func (w *nameWalk) within(visit func()) bool {
	oldClosure, oldHow := w.closure, w.how
	w.closure, w.how = &closure{parent: oldClosure, depth: oldClosure.depth + 1}, asOperand
	visit()
	w.closure, w.how = oldClosure, oldHow
	return true
}

func (w *nameWalk) step(x any) bool {
	switch x := x.(type) {
	case *ast.Expr:
		return w.expr(x)
	case *ast.Term:
		if v, ok := x.Value.(ast.Var); ok {
			w.note(v, x.Location)
			return true
		}
		switch v := x.Value.(type) {
		case ast.Ref:
			w.ref(v, x.Location)
			return true
		case ast.Call:
			w.call(v[0], v[1:])
			return true
		}
	case *ast.ArrayComprehension:
		return w.within(func() { w.visit(x.Term); w.visit(x.Body) })
	case *ast.SetComprehension:
		return w.within(func() { w.visit(x.Term); w.visit(x.Body) })
	case *ast.ObjectComprehension:
		return w.within(func() { w.visit(x.Key); w.visit(x.Value); w.visit(x.Body) })
	case *ast.SomeDecl, *ast.Every:
		return true // part of an expression, which has them
	}
	return false
}

func (w *nameWalk) expr(e *ast.Expr) bool {
	for _, with := range e.With {
		w.visit(with.Value)
	}
	switch terms := e.Terms.(type) {
	case *ast.SomeDecl:
		w.some(terms)
	case *ast.Every:
		w.visit(terms.Domain)
		w.within(func() {
			for _, t := range []*ast.Term{terms.Key, terms.Value} {
				if t != nil {
					w.bind(t)
				}
			}
			w.visit(terms.Body)
		})
	case []*ast.Term:
		if len(terms) > 0 {
			w.call(terms[0], terms[1:])
		}
	case *ast.Term:
		w.visit(terms)
	}
	return true
}

func (w *nameWalk) some(d *ast.SomeDecl) {
	for _, symbol := range d.Symbols {
		switch v := symbol.Value.(type) {
		case ast.Var:
			w.declared[v] = true
		case ast.Call: // some x in list
			for _, t := range v[1 : len(v)-1] {
				w.bind(t)
			}
			w.visit(v[len(v)-1])
		}
	}
}

func (w *nameWalk) call(operator *ast.Term, operands []*ast.Term) {
	name := operator.String()
	switch name {
	case ast.Assign.Name, ast.Assign.Infix:
		if len(operands) == 2 {
			w.bind(operands[0])
			w.visit(operands[1])
			return
		}
	case ast.Equality.Name, ast.Equality.Infix:
		for _, t := range operands {
			w.as(inEquation, t)
		}
		return
	}
	takes := len(operands)
	if b, ok := ast.BuiltinMap[name]; ok && b.Decl != nil {
		takes = b.Decl.Arity()
	} else if n, ok := w.arity[name]; ok {
		takes = n
	}
	for i, t := range operands {
		if i >= takes && name != ast.WalkBuiltin.Name {
			w.as(asResult, t)
		} else {
			w.as(asOperand, t)
		}
	}
}

func (w *nameWalk) ref(ref ast.Ref, loc *ast.Location) {
	switch v := ref[0].Value.(type) {
	case ast.Var:
		if !v.Equal(ast.DefaultRootDocument.Value) && !v.Equal(ast.InputRootDocument.Value) {
			old := w.how
			w.how = asOperand
			w.note(v, loc)
			w.how = old
		}
	default:
		w.as(asOperand, ref[0])
	}
	for _, t := range ref[1:] {
		w.as(asKey, t)
	}
}

func (w *nameWalk) note(v ast.Var, loc *ast.Location) {
	if v.IsWildcard() || v.IsGenerated() || v.Equal(ast.DefaultRootDocument.Value) || v.Equal(ast.InputRootDocument.Value) {
		return
	}
	w.seen[v] = append(w.seen[v], occurrence{w.how, w.closure, loc})
}

// findings are the occurrences of names that occur once.
func (w *nameWalk) findings(rule *ast.Rule) []Finding {
	var found []Finding
	for v, list := range w.seen {
		if w.bound[v] {
			continue
		}
		for _, o := range alone(list) {
			if o.how == asOperand || o.how == asKey && w.declared[v] || o.closure.depth > maxClosures {
				continue
			}
			message := fmt.Sprintf("nothing gives %s a value, so this holds for any value", v)
			hint := fmt.Sprintf("put it in quotes if it is a text: %q; write _ where any value is meant", string(v))
			found = append(found, at(o.at, rule.Location, message, hint))
		}
	}
	sortFindings(found)
	return found
}

// alone are the occurrences of a name of which none other is in the same closure,
// in one around it or in one within it.
func alone(list []occurrence) []occurrence {
	if len(list) == 1 {
		return list
	}
	count := map[*closure]int{}
	for _, o := range list {
		count[o.closure]++
	}
	shared := map[*closure]bool{}
	for c, n := range count {
		if n > 1 {
			shared[c] = true
		}
		steps := 0
		for up := c.parent; up != nil && steps < maxClosures; up, steps = up.parent, steps+1 {
			if count[up] > 0 {
				shared[c], shared[up] = true, true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(o occurrence) bool { return shared[o.closure] })
}
