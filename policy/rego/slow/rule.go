package slow

import (
	"fmt"
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/check"
)

// LongLoop and longList are the lengths from which a warning is due. A member that the
// policy visits costs about half a microsecond, and one that a builtin visits a hundredth
// of that.
const (
	LongLoop = 50
	longList = 1000
)

// checker checks one rule.
type checker struct {
	data      ast.Object
	warn      Warn
	aliases   map[ast.Var]ast.Ref
	constants map[ast.Var]ast.Value // of the policy, and those that the rule assigns
	bound     map[ast.Var]bool      // have a value before a lookup uses them
}

// loop is a collection that is visited member by member.
type loop struct {
	n    int
	what string
}

func (s *checker) rule(r *ast.Rule) {
	s.constants, s.bound = maps.Clone(s.constants), map[ast.Var]bool{}
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool {
			s.bound[v] = true
			delete(s.constants, v)
			return false
		})
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		s.assigns(e)
		return false
	})
	s.body(r.Body, nil)
	for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if t != nil {
			s.inner(t, nil)
			s.calls(t)
		}
	}
}

// assigns notes the names that an expression gives a value.
func (s *checker) assigns(e *ast.Expr) {
	if (e.IsAssignment() || e.IsEquality()) && len(e.Operands()) == 2 {
		left, right := e.Operand(0), e.Operand(1)
		if e.IsEquality() {
			if _, ok := left.Value.(ast.Var); !ok {
				left, right = right, left
			}
		}
		name, ok := left.Value.(ast.Var)
		if !ok {
			return
		}
		s.bound[name] = true
		delete(s.constants, name)
		if right.IsGround() && !check.ContainsRefs(right) {
			s.constants[name] = right.Value
		}
		return
	}
	if d, ok := e.Terms.(*ast.SomeDecl); ok {
		for _, symbol := range d.Symbols {
			if call, ok := symbol.Value.(ast.Call); ok {
				for _, t := range call[1 : len(call)-1] {
					ast.WalkVars(t, func(v ast.Var) bool {
						s.bound[v] = true
						delete(s.constants, v)
						return false
					})
				}
			}
		}
	}
}

// body checks a body, which is evaluated for each round of the loops outside.
func (s *checker) body(body ast.Body, outside []loop) {
	inside := outside
	for _, e := range body {
		var own []loop
		switch terms := e.Terms.(type) {
		case *ast.SomeDecl:
			for _, symbol := range terms.Symbols {
				if call, ok := symbol.Value.(ast.Call); ok {
					own = s.collection(own, call[len(call)-1])
				}
			}
		case *ast.Every:
			own = s.collection(own, terms.Domain)
			if len(own) > 0 {
				s.report(e.Location, inside, own)
			}
			s.body(terms.Body, append(inside[:len(inside):len(inside)], own...))
			continue
		}
		own = append(own, s.lookups(e)...)
		if len(own) > 0 {
			s.report(e.Location, inside, own)
		}
		s.calls(e)
		s.inner(e, inside)
		inside = append(inside[:len(inside):len(inside)], own...)
	}
}

// inner checks the comprehensions in an expression or a term.
func (s *checker) inner(x any, outside []loop) {
	ast.WalkClosures(x, func(c any) bool {
		switch c := c.(type) {
		case *ast.ArrayComprehension:
			s.body(c.Body, outside)
		case *ast.SetComprehension:
			s.body(c.Body, outside)
		case *ast.ObjectComprehension:
			s.body(c.Body, outside)
		}
		return true
	})
}

// collection adds a loop over a term, if it is known how long that is.
func (s *checker) collection(loops []loop, t *ast.Term) []loop {
	value, what := s.value(t)
	if n := lengthOf(value); n > 1 {
		loops = append(loops, loop{n, what})
	}
	return loops
}

// lookups are the loops that references make: data.hosts[_], and walk.
func (s *checker) lookups(e *ast.Expr) (loops []loop) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every, *ast.SomeDecl:
			return true // they have bodies of their own
		case *ast.Expr:
			if x.IsCall() && x.OperatorTerm().Value.String() == ast.WalkBuiltin.Name {
				if value, what := s.value(x.Operand(0)); value != nil {
					loops = append(loops, loop{nodesOf(value), what})
				}
			}
		case ast.Ref:
			if l, ok := s.lookup(x); ok {
				loops = append(loops, l)
			}
		}
		return false
	}).Walk(e)
	return loops
}

// lookup is the loop that a reference makes where its first name that is not
// written out has no value yet.
func (s *checker) lookup(ref ast.Ref) (loop, bool) {
	for i, t := range ref {
		name, isVar := t.Value.(ast.Var)
		if i == 0 || !isVar {
			continue
		}
		if s.bound[name] || s.constants[name] != nil || s.aliases[name] != nil {
			return loop{}, false
		}
		prefix := ast.NewTerm(ref[:i])
		if i == 1 {
			prefix = ref[0]
		}
		value, what := s.value(prefix)
		n := lengthOf(value)
		return loop{n, what}, n > 1
	}
	return loop{}, false
}

// report warns of long loops, and of loops that are long because they are nested.
func (s *checker) report(at *ast.Location, outside, own []loop) {
	rounds := 1
	for _, o := range outside {
		rounds *= min(o.n, 1<<20)
		rounds = min(rounds, 1<<30)
	}
	for _, o := range own {
		switch {
		case o.n >= LongLoop:
			s.warn(at, fmt.Sprintf("%s has %d members and is scanned for every decision", o.what, o.n), "look one up by its key where that will do")
		case rounds > 1 && rounds*o.n >= 2*LongLoop && !longOutside(outside):
			s.warn(at, fmt.Sprintf("%s, with %d members, is scanned in each of %d iterations of the enclosing loops, at every decision", o.what, o.n, rounds), "look one of the two up by its key")
		}
		rounds = min(rounds*o.n, 1<<30)
	}
}

// longOutside reports whether a loop outside is long: the inner one is long because of it,
// and is not reported.
func longOutside(outside []loop) bool {
	for _, o := range outside {
		if o.n >= LongLoop {
			return true
		}
	}
	return false
}

// calls checks the builtins and functions that an expression calls, outside of
// comprehensions.
func (s *checker) calls(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			if x.IsCall() {
				s.call(x.Location, x.OperatorTerm(), x.Operands())
			}
		case *ast.Term:
			if call, ok := x.Value.(ast.Call); ok {
				s.call(x.Location, call[0], call[1:])
			}
		}
		return false
	}).Walk(x)
}

// patternOperand is which operand is the pattern, by builtin.
var patternOperand = map[string]int{
	ast.RegexMatch.Name: 0, ast.RegexFind.Name: 0, ast.RegexFindAllStringSubmatch.Name: 0, ast.RegexSplit.Name: 0,
	ast.RegexReplace.Name: 1, ast.RegexTemplateMatch.Name: 0, ast.GlobMatch.Name: 0,
}

func (s *checker) call(at *ast.Location, operator *ast.Term, operands []*ast.Term) {
	name := operator.Value.String()
	if index, ok := patternOperand[name]; ok && len(operands) > index && s.varies(operands[index]) {
		s.warn(at, name+" is called for one pattern after the other", "use data.sallyport.lib.host_in with *. patterns, which are looked up")
		return
	}
	switch name = s.fullName(operator); name {
	case ast.Member.Name, "data.sallyport.lib.host_in", "data.sallyport.lib.target_in":
	default:
		return
	}
	if len(operands) < 2 || name == ast.Member.Name && isIndexed(operands[0], operands[1]) {
		return
	}
	value, what := s.value(operands[1])
	if list, ok := value.(*ast.Array); ok && list.Len() >= longList {
		s.warn(at, fmt.Sprintf("%s has %d members and is scanned for every decision", what, list.Len()), "make it a set, or an object whose keys they are: looking one up costs the same however many there are")
	}
}

// fullName is the name of a function, with the path of an import for its alias.
func (s *checker) fullName(operator *ast.Term) string {
	if ref, ok := operator.Value.(ast.Ref); ok {
		if head, ok := ref[0].Value.(ast.Var); ok && s.aliases[head] != nil {
			return s.aliases[head].Concat(ref[1:]).String()
		}
	}
	return operator.Value.String()
}

// isIndexed reports whether OPA makes an index for a part of the input in a collection:
// it does where the collection is written out.
func isIndexed(part, collection *ast.Term) bool {
	ref, ok := part.Value.(ast.Ref)
	return ok && ref.HasPrefix(ast.InputRootRef) && collection.IsGround() && !check.ContainsRefs(collection)
}

// varies reports whether a pattern is not one and the same at every decision.
func (s *checker) varies(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		return s.constants[v] == nil && s.aliases[v] == nil
	case ast.Ref:
		head, ok := v[0].Value.(ast.Var)
		return !ok || !v[1:].IsGround() || v.HasPrefix(ast.InputRootRef) || s.bound[head]
	}
	return !t.IsGround() || check.ContainsRefs(t)
}

// value is the value of a term: a literal, a named constant, or a document; nil if it is
// not known.
func (s *checker) value(t *ast.Term) (ast.Value, string) {
	var ref ast.Ref
	switch v := t.Value.(type) {
	case ast.Var:
		if value := s.constants[v]; value != nil {
			return value, string(v)
		}
		ref = s.aliases[v]
	case ast.Ref:
		ref = v
		if name, ok := v[0].Value.(ast.Var); ok && s.aliases[name] != nil {
			ref = s.aliases[name].Concat(v[1:])
		}
	default:
		return t.Value, "the list"
	}
	if len(ref) < 2 || !ref.HasPrefix(ast.DefaultRootRef) || s.data == nil {
		return nil, ""
	}
	value, err := s.data.Find(ref[1:])
	if err != nil {
		return nil, ""
	}
	return value, ref.String()
}

func lengthOf(v ast.Value) int {
	switch v := v.(type) {
	case *ast.Array:
		return v.Len()
	case ast.Set:
		return v.Len()
	case ast.Object:
		return v.Len()
	}
	return 0
}

// nodesOf counts the values that walk visits.
func nodesOf(v ast.Value) int {
	n := 1
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { n += nodesOf(t.Value) })
	case ast.Object:
		v.Foreach(func(_, t *ast.Term) { n += nodesOf(t.Value) })
	}
	return n
}
