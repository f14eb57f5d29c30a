package rego

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

const explainedPolicy = `
-- egress/a.rego --
package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "open"} if {
	input.target.port == 443
	lib.host_in(input.target.host, {
		"a.example",
		"*.b.example",
	})
}

allow contains {"rule": "ended", "expires": "2026-01-01T00:00:00Z"} if input.target.port == 443

allow contains {"rule": "address"} if input.target.host == "192.0.2.1"

deny contains {"rule": "production-only"} if {
	input.target.host == "api.partner.example"
	not production
}

delegate contains {"rule": "own"} if input.principal.branch == "main"

production if input.principal.deployment.type == "production"
-- repositories/acme/payments/p.rego --
package sallyport.repository["acme/payments"]

allow contains {"rule": "two"} if {
	input.target.host == "x.example"
}

allow contains {"rule": "two"} if {
	some host in ["y.example", "api.partner.example"]
	input.target.host == host
	input.principal.deployment.type == "production"
}
`

func explanationOf(t *testing.T, set *Set, words ...string) string {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, words...))
	if err != nil {
		t.Fatal(err)
	}
	x, err := set.Explain(t.Context(), d.Input)
	if err != nil {
		t.Fatal(err)
	}
	if x.Decision.Verdict != d.Verdict || x.Decision.Reason != d.Reason || x.Decision.Rule != d.Rule {
		t.Errorf("decided %+v, explained %+v", d, x.Decision)
	}
	var b strings.Builder
	for _, r := range x.Rules {
		fmt.Fprintf(&b, "%s %s %s:%d", r.Set, r.Rule, r.File, r.Line)
		switch {
		case r.Ignored != "":
			fmt.Fprintf(&b, " ignored: %s", r.Ignored)
		case r.Matched:
			b.WriteString(" matched")
		default:
			fmt.Fprintf(&b, " failed at %d: %s", r.Failed.Line, r.Failed.Text)
			for _, v := range r.Failed.Read {
				if v.Absent {
					v.Value = "absent"
				}
				fmt.Fprintf(&b, " [%s %s]", v.Path, v.Value)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestExplain: the explanation has for every rule whether it matched, and otherwise the
// first condition that did not hold, as it is written, with the values that it read.
func TestExplain(t *testing.T) {
	set := mustLoad(t, explainedPolicy)
	for _, c := range []struct{ words, want string }{
		{"to=api.partner.example:443", `deny production-only egress/a.rego:17 matched
allow open egress/a.rego:5 failed at 7: lib.host_in(input.target.host, { "a.example", "*.b.example", }) [input.target.host "api.partner.example"]
allow ended egress/a.rego:13 ignored: it expired at 2026-01-01T00:00:00Z
allow address egress/a.rego:15 failed at 15: input.target.host == "192.0.2.1" [input.target.host "api.partner.example"]
allow two repositories/acme/payments/p.rego:3 failed at 4: input.target.host == "x.example" [input.target.host "api.partner.example"]
allow two repositories/acme/payments/p.rego:7 failed at 10: input.principal.deployment.type == "production" [input.principal.deployment.type absent]
delegate own egress/a.rego:22 matched
`},
		{"to=y.example:8443 deployment=production branch=x", `deny production-only egress/a.rego:17 failed at 18: input.target.host == "api.partner.example" [input.target.host "y.example"]
allow open egress/a.rego:5 failed at 6: input.target.port == 443 [input.target.port 8443]
allow ended egress/a.rego:13 failed at 13: input.target.port == 443 [input.target.port 8443]
allow address egress/a.rego:15 failed at 15: input.target.host == "192.0.2.1" [input.target.host "y.example"]
allow two repositories/acme/payments/p.rego:3 failed at 4: input.target.host == "x.example" [input.target.host "y.example"]
allow two repositories/acme/payments/p.rego:7 ignored: the organization does not delegate for this: no rule of delegate matched
delegate own egress/a.rego:22 failed at 22: input.principal.branch == "main" [input.principal.branch "x"]
`},
		{"to=192.0.2.1:22 repository=acme/other", `deny production-only egress/a.rego:17 failed at 18: input.target.host == "api.partner.example" [input.target.host "192.0.2.1"]
allow open egress/a.rego:5 failed at 6: input.target.port == 443 [input.target.port 22]
allow ended egress/a.rego:13 failed at 13: input.target.port == 443 [input.target.port 22]
allow address egress/a.rego:15 ignored: the target is an IP address, and it does not set "allow_ip_literal": true
delegate own egress/a.rego:22 matched
`},
		{"to=api.partner.example:443 deployment=production", `deny production-only egress/a.rego:17 failed at 19: not production
allow open egress/a.rego:5 failed at 7: lib.host_in(input.target.host, { "a.example", "*.b.example", }) [input.target.host "api.partner.example"]
allow ended egress/a.rego:13 ignored: it expired at 2026-01-01T00:00:00Z
allow address egress/a.rego:15 failed at 15: input.target.host == "192.0.2.1" [input.target.host "api.partner.example"]
allow two repositories/acme/payments/p.rego:3 failed at 4: input.target.host == "x.example" [input.target.host "api.partner.example"]
allow two repositories/acme/payments/p.rego:7 matched
delegate own egress/a.rego:22 matched
`},
	} {
		if got := explanationOf(t, set, strings.Fields(c.words)...); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.words, got, c.want)
		}
	}
}

// TestExplainAgreesWithTheDecision: every rule that the decision names has matched.
func TestExplainAgreesWithTheDecision(t *testing.T) {
	set := mustLoad(t, explainedPolicy)
	for _, words := range []string{"to=a.example:443", "to=x.b.example:443", "to=192.0.2.1:443", "to=x.example:443", "to=api.partner.example:443 deployment=production"} {
		d, err := set.Decide(t.Context(), requestFor(t, strings.Fields(words)...))
		if err != nil {
			t.Fatal(err)
		}
		x, err := set.Explain(t.Context(), d.Input)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]bool{}
		for _, r := range x.Rules {
			if r.Matched && r.Ignored == "" {
				counts[r.Rule] = true
			}
			if r.Matched == (r.Failed != nil) {
				t.Errorf("%s: %+v", words, r)
			}
		}
		for _, rule := range d.Rules {
			if !counts[rule] {
				t.Errorf("%s: %s decided, and is not explained to have matched", words, rule)
			}
		}
		if d.Verdict == policy.Deny && d.Reason == policy.NoRuleMatched && (counts["open"] || counts["two"]) {
			t.Errorf("%s: %v", words, counts)
		}
	}
}
