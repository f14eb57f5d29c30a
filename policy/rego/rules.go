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

// packageText is how a package is written in a file: without its root.
func packageText(ref ast.Ref) string {
	return strings.TrimPrefix(ref.String(), "data.")
}
