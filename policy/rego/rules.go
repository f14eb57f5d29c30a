package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The partial sets of a policy.
const (
	setAllow    = "allow"
	setDeny     = "deny"
	setReport   = "report"
	setDelegate = "delegate" // of requests
	setRoute    = "route"    // of deliveries
)

func keyObject(head *ast.Head) (ast.Object, bool) {
	if head.Key == nil {
		return nil, false
	}
	object, ok := head.Key.Value.(ast.Object)
	return object, ok
}

// containsRefs reports whether a term holds a reference, a call or a
// comprehension: something that is not a literal though it is ground.
func containsRefs(t *ast.Term) bool {
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

// packageText is how a package is written in a file: without its root.
func packageText(ref ast.Ref) string {
	return strings.TrimPrefix(ref.String(), "data.")
}
