package proxy_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// adapters implements the four interfaces that a Gate needs, without a network.
type adapters struct{}

func (adapters) Authenticate(context.Context, identity.Credential) (*identity.Principal, error) {
	return &identity.Principal{Issuer: "example", Repository: identity.Repository{UUID: "11112222-3333-4444-5555-000000000001", FullName: "acme/payments"}}, nil
}

// Decide allows one host. Every other request gets the zero decision, which denies.
func (adapters) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	if r.Target.Host != "api.partner.example" {
		return policy.Decision{}, nil
	}
	return policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "partner"}, nil
}

func (adapters) Record(_ context.Context, e *audit.Event) error {
	if e.Kind == audit.KindDecision {
		fmt.Println("recorded:", e.Verdict, e.Host, e.Reason)
	}
	return nil
}

func (adapters) AvailableTo(audit.Source) error { return nil }

func (adapters) Resolve(context.Context, fair.Subject, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
}

// A Gate admits a request only after policy allows it and the decision is durable. The
// admission dials the addresses that were resolved and permitted, and no other.
func ExampleGate() {
	a := adapters{}
	gate, err := proxy.NewGate(proxy.Config{Authenticator: a, Decider: a, Recorder: a, Resolver: a, Guard: &proxy.Guard{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, target := range []string{"api.partner.example:443", "paste.example:443"} {
		admission, refusal := gate.Admit(context.Background(), proxy.Attempt{
			Action: policy.Connect, Target: target,
			Client:     netip.MustParseAddrPort("192.0.2.1:40000"),
			Credential: identity.NewCredential("token"),
		})
		if refusal != nil {
			fmt.Println("refused:", refusal.Status, refusal.Reason)
			continue
		}
		fmt.Println("may dial:", admission.Addresses)
		admission.Close(proxy.Outcome{Cause: proxy.CauseClientClosed})
	}
	// Output:
	// recorded: allow api.partner.example policy_allowed
	// may dial: [93.184.216.34:443]
	// recorded: deny paste.example no_rule_matched
	// refused: 403 no_rule_matched
}
