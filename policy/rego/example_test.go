package rego_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// Load checks, compiles and tests a policy. The set that it returns decides requests.
func ExampleLoad() {
	snapshot, err := policy.NewSnapshot([]policy.File{{Path: "egress/allow.rego", Content: []byte(`package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "partner"} if {
	input.target.port == 443
	lib.host_in(input.target.host, {"api.partner.example"})
}
`)}}, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := rego.Load(context.Background(), snapshot, rego.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, host := range []string{"api.partner.example", "paste.example"} {
		decision, err := set.Decide(context.Background(), &policy.Request{
			Time: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Action: policy.Connect,
			Target:    destination.Target{Host: host, Port: 443},
			Principal: &identity.Principal{Workspace: identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d"}, Repository: identity.Repository{UUID: "11112222-3333-4444-5555-000000000001"}},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(host, decision.Verdict, decision.Reason, decision.Rule)
	}
	// Output:
	// api.partner.example allow policy_allowed partner
	// paste.example deny no_rule_matched
}
