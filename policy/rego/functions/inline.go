package functions

import "github.com/open-policy-agent/opa/v1/ast"

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
// arguments, and does nothing else; nil if there is none, or if a call of n terms uses the
// result of a condition, or does not use a value.
func nativeOf(rules []*ast.Rule, n int) ast.Ref {
	if len(rules) != 1 || rules[0].Default || rules[0].Else != nil || len(rules[0].Body) != 1 {
		return nil
	}
	rule, body := rules[0], rules[0].Body[0]
	terms, ok := body.Terms.([]*ast.Term)
	if !ok || len(terms) != n || body.Negated || len(body.With) > 0 || rule.Head.Value == nil {
		return nil
	}
	if !passesOn(rule.Head, terms) {
		return nil
	}
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok || Native[ref.String()] == nil {
		return nil
	}
	return ref
}

// passesOn reports whether a call passes on the arguments of a function, and returns what
// the function returns.
func passesOn(head *ast.Head, call []*ast.Term) bool {
	n := len(call)
	switch value := head.Value; {
	case value.Equal(ast.InternedTerm(true)) && len(head.Args) == n-1: // a condition
	case len(head.Args) == n-2 && isVar(value) && value.Equal(call[n-1]): // a value
	default:
		return false
	}
	for i, argument := range head.Args {
		if !isVar(argument) || !argument.Equal(call[i+1]) {
			return false
		}
	}
	return true
}

func isVar(t *ast.Term) bool {
	_, is := t.Value.(ast.Var)
	return is
}
