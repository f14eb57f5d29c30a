package rego

import "testing"

// TestUnlistedBuiltinIsRefused: a policy that calls a builtin of OPA that is not listed does
// not load, and the error has the reason.
func TestUnlistedBuiltinIsRefused(t *testing.T) {
	_, err := Load(t.Context(), snapshot(t, org("allow contains {\"rule\": \"x\"} if graphql.is_valid(\"{a}\", \"type Q {a: Int}\")")), Options{Names: true})
	expect(t, err, inOrg+"3", "graphql.is_valid is not available in a policy: rules about destinations do not need it")
}
