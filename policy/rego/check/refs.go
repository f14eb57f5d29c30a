package check

import "github.com/open-policy-agent/opa/v1/ast"

// ContainsRefs reports whether a term holds a reference, a call or a
// comprehension: such a term is not a literal, even if it is ground.
func ContainsRefs(t *ast.Term) bool {
	found := false
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Call, ast.Var, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
			found = true
		}
		return found
	})
	return found
}
