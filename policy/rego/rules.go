package rego

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The partial sets of a policy.
const (
	setAllow    = "allow"
	setDeny     = "deny"
	setReport   = "report"
	setDelegate = "delegate"
)

func isSet(name string) bool {
	return name == setAllow || name == setDeny || name == setReport || name == setDelegate
}

// firstName is the first part of a rule's reference: the name that it defines
// something under.
func firstName(rule *ast.Rule) string {
	ref := rule.Head.Ref()
	if len(ref) == 0 {
		return ""
	}
	switch v := ref[0].Value.(type) {
	case ast.Var:
		return string(v)
	case ast.String:
		return string(v)
	}
	return ref[0].String()
}

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

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
