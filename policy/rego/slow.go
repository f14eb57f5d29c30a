package rego

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// longList is from how many members on a list is worth looking up by key.
const longList = 50

// lintSlow says what in a policy makes every decision slow, and what to write
// instead: lists that are gone through from beginning to end, and patterns that
// are compiled for each host.
func (l *loader) lintSlow() {
	for _, u := range l.units() {
		deciding, _ := l.alone().parseUnit(u)
		for _, path := range sortedKeys(deciding) {
			aliases := importedData(deciding[path])
			ast.WalkTerms(deciding[path], func(t *ast.Term) bool {
				if call, ok := t.Value.(ast.Call); ok {
					l.slowCall(t.Location, call[0], call[1:], aliases)
				}
				return false
			})
			ast.WalkExprs(deciding[path], func(e *ast.Expr) bool {
				switch terms := e.Terms.(type) {
				case []*ast.Term:
					if e.IsCall() {
						l.slowCall(e.Location, terms[0], terms[1:], aliases)
					}
				case *ast.SomeDecl:
					for _, s := range terms.Symbols {
						if call, ok := s.Value.(ast.Call); ok {
							l.slowSome(e.Location, call[len(call)-1], aliases)
						}
					}
				}
				return false
			})
		}
	}
}

// importedData are the names under which a file imports documents.
func importedData(m *ast.Module) map[ast.Var]ast.Ref {
	aliases := map[ast.Var]ast.Ref{}
	for _, imp := range m.Imports {
		if ref, ok := imp.Path.Value.(ast.Ref); ok && ref.HasPrefix(ast.DefaultRootRef) {
			aliases[imp.Name()] = ref
		}
	}
	return aliases
}

func (l *loader) slowCall(at *ast.Location, operator *ast.Term, operands []*ast.Term, aliases map[ast.Var]ast.Ref) {
	name := operator.Value.String()
	switch {
	case name == ast.Member.Name && len(operands) >= 2:
		if n, what := l.listLength(operands[1], aliases); n >= longList {
			l.slow(at, fmt.Sprintf("%s has %d members and is gone through for every decision", what, n), "make it a set, or an object whose keys they are: looking one up costs the same however many there are")
		}
	case (name == "lib.host_in" || name == "lib.target_in" || name == "data.sallyport.lib.host_in" || name == "data.sallyport.lib.target_in") && len(operands) >= 2:
		if n, what := l.listLength(operands[1], aliases); n >= longList {
			l.slow(at, fmt.Sprintf("%s has %d members and is gone through for every decision", what, n), "make it a set, or an object whose keys they are")
		}
	case name == ast.RegexMatch.Name || name == ast.GlobMatch.Name:
		if len(operands) > 0 && !operands[0].IsGround() || len(operands) > 0 && isReference(operands[0]) {
			l.slow(at, name+" is asked for one pattern after the other", "use data.sallyport.lib.host_in with *. patterns, which are looked up")
		}
	}
}

// slowSome is some x in list, which goes through the list.
func (l *loader) slowSome(at *ast.Location, list *ast.Term, aliases map[ast.Var]ast.Ref) {
	if n, what := l.length(list, aliases); n >= longList {
		l.slow(at, fmt.Sprintf("%s has %d members and is gone through for every decision", what, n), "look one up by its key where that will do")
	}
}

func isReference(t *ast.Term) bool {
	_, ok := t.Value.(ast.Ref)
	return ok
}

func (l *loader) slow(loc *ast.Location, message, hint string) {
	l.warn(at(loc, nil, "slow: "+message, hint))
}

// listLength is the length of what a term is, if that is a list, written out or
// among the documents; 0 otherwise.
func (l *loader) listLength(t *ast.Term, aliases map[ast.Var]ast.Ref) (n int, what string) {
	value, what := l.literalOrDocument(t, aliases)
	if list, ok := value.(*ast.Array); ok {
		return list.Len(), what
	}
	return 0, ""
}

// length is that of any collection.
func (l *loader) length(t *ast.Term, aliases map[ast.Var]ast.Ref) (n int, what string) {
	switch value, what := l.literalOrDocument(t, aliases); v := value.(type) {
	case *ast.Array:
		return v.Len(), what
	case ast.Set:
		return v.Len(), what
	case ast.Object:
		return v.Len(), what
	}
	return 0, ""
}

func (l *loader) literalOrDocument(t *ast.Term, aliases map[ast.Var]ast.Ref) (ast.Value, string) {
	var ref ast.Ref
	switch v := t.Value.(type) {
	case ast.Var:
		ref = aliases[v]
	case ast.Ref:
		ref = v
		if name, ok := v[0].Value.(ast.Var); ok && aliases[name] != nil {
			ref = aliases[name].Concat(v[1:])
		}
	default:
		return t.Value, "the list"
	}
	if len(ref) < 2 || !ref.HasPrefix(ast.DefaultRootRef) || l.data == nil {
		return nil, ""
	}
	value, err := l.data.Find(ref[1:])
	if err != nil {
		return nil, ""
	}
	return value, ref.String()
}
