package functions

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InlineCalls replaces calls of the library's functions whose only rule calls a function in
// Go by calls of the function in Go: OPA's call of a rule takes longer than most of these
// functions. It changes compiled modules, for decisions.
//
// A function without a value of its own is replaced in conditions only, and not where its
// result is used: where the function in Go is false, the library's is undefined.
func InlineCalls(c *ast.Compiler) {
	for _, m := range c.Modules {
		ast.WalkExprs(m, func(e *ast.Expr) bool {
			terms, ok := e.Terms.([]*ast.Term)
			if !ok || len(terms) == 0 {
				return false
			}
			ref, ok := terms[0].Value.(ast.Ref)
			if !ok || !ref.HasPrefix(ast.DefaultRootRef) {
				return false
			}
			if native := nativeOf(c.GetRulesExact(ref), len(terms)); native != nil {
				operator := *terms[0]
				operator.Value = native
				terms[0] = &operator
			}
			return false
		})
	}
}

// nativeOf returns the function in Go that a function of the library calls with its own
// arguments, and does nothing else. It returns nil if there is none, if a call of n terms
// uses the result of a function without a value, or if the call ignores a value.
func nativeOf(rules []*ast.Rule, n int) ast.Ref {
	if len(rules) != 1 || rules[0].Default || rules[0].Else != nil || len(rules[0].Body) != 1 {
		return nil
	}
	body := rules[0].Body[0]
	terms, ok := body.Terms.([]*ast.Term)
	if !ok || len(terms) != n || body.Negated || len(body.With) > 0 || !passesOn(rules[0].Head, terms[1:]) {
		return nil
	}
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok || Native[ref.String()] == nil {
		return nil
	}
	return ref
}

// passesOn reports whether the terms of a call are the arguments of a function, and then
// its value, if it has one.
func passesOn(head *ast.Head, terms []*ast.Term) bool {
	if head.Value == nil {
		return false
	}
	want := head.Args
	if !head.Value.Equal(ast.InternedTerm(true)) {
		want = append(want[:len(want):len(want)], head.Value)
	}
	return slices.EqualFunc(want, terms, func(a, b *ast.Term) bool {
		_, isVar := a.Value.(ast.Var)
		return isVar && a.Equal(b)
	})
}
