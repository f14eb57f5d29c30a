package rego

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// excepted is a policy whose organization and whose repository look up exceptions,
// and one more rule that reads them in another way.
const excepted = `-- egress/e.rego --
package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "exception", "expires": e.until} if {
	some e in lib.exceptions_for(data.exceptions.list, input.principal.repository.full_name, input.target)
}

allow contains {"rule": "by-hand"} if {
	some e in data.exceptions.by_hand
	e.host == input.target.host
	lib.active(e)
}

deny contains {"rule": "guarded"} if {
	input.target.host == "guarded.example"
	count(lib.exceptions_for(data.exceptions.guard, input.principal.repository.full_name, input.target)) == 0
}

allow contains {"rule": "all-guarded"} if input.target.host == "guarded.example"

allow contains {"rule": "made"} if {
	input.target.host == "made.example"
	made := {"repository": "acme/payments", "hosts": ["made.example"], "owner": "ann@acme.example", "until": "2099-01-01T00:00:00Z"}
	count(lib.exceptions_for([made], input.principal.repository.full_name, input.target)) == 1
}

delegate contains {"rule": "delegated"} if input.target.host == "own.example"
-- repositories/acme/payments/own.rego --
package sallyport.repository["acme/payments"]

import data.sallyport.lib

allow contains {"rule": "own", "expires": e.until} if {
	some e in lib.exceptions_for(data.exceptions.own, input.principal.repository.full_name, input.target)
}
-- data/exceptions/list.yaml --
list:
  - {repository: acme/website, hosts: ["a.example"], owner: kim@acme.example, ticket: X-0, until: "2099-01-01T00:00:00Z"}
  - {repository: acme/payments, hosts: ["a.example", "*.b.example:8443"], owner: kim@acme.example, ticket: X-1, until: "2026-12-01T00:00:00Z"}
  - {repository: acme/payments, hosts: ["a.example"], owner: lee@acme.example, ticket: X-2, until: "2099-01-01T00:00:00Z"}
  - {repository: acme/payments, hosts: ["a.example"], owner: old@acme.example, ticket: X-3, until: "2020-01-01T00:00:00Z"}
own:
  - {repository: acme/payments, hosts: ["own.example"], owner: pay@acme.example, ticket: OWN-1, until: "2099-01-01T00:00:00Z"}
guard:
  - {repository: acme/payments, hosts: ["guarded.example"], owner: sec@acme.example, ticket: G-1, until: "2099-01-01T00:00:00Z"}
by_hand:
  - {host: hand.example, owner: kim@acme.example, ticket: H-1, until: "2099-01-01T00:00:00Z"}
`

// TestAppliedExceptions: a decision names the exceptions of the organization's and the
// repository's rules that the library found, with their fields; a replayed, a remembered
// and an explained decision name the same.
func TestAppliedExceptions(t *testing.T) {
	set := mustLoad(t, excepted)
	shown := func(list []policy.AppliedException) string {
		var all []string
		for _, e := range list {
			all = append(all, fmt.Sprintf("%s %s %s %v", e.Path, e.Owner, e.Ticket, e.Hosts))
		}
		return strings.Join(all, "; ")
	}
	replayer := NewReplayer(set)
	for _, c := range []struct{ asked, verdict, want string }{
		{"to=a.example:443", "allow", "data.exceptions.list[1] kim@acme.example X-1 [a.example *.b.example:8443]; data.exceptions.list[2] lee@acme.example X-2 [a.example]"},
		{"to=a.example:443 time=2026-12-02T00:00:00Z", "allow", "data.exceptions.list[2] lee@acme.example X-2 [a.example]"},
		{"to=x.b.example:8443", "allow", "data.exceptions.list[1] kim@acme.example X-1 [a.example *.b.example:8443]"},
		{"to=x.b.example:443", "deny", ""},
		{"to=a.example:443 repository=acme/website", "allow", "data.exceptions.list[0] kim@acme.example X-0 [a.example]"},
		{"to=a.example:443 repository=acme/tools", "deny", ""},
		{"to=own.example:443", "allow", "data.exceptions.own[0] pay@acme.example OWN-1 [own.example]"},
		{"to=guarded.example:443", "allow", "data.exceptions.guard[0] sec@acme.example G-1 [guarded.example]"},
		{"to=guarded.example:443 repository=acme/website", "deny", ""},
		{"to=made.example:443", "allow", " ann@acme.example  [made.example]"},
		{"to=hand.example:443", "allow", ""}, // read by a rule of its own: not noted
	} {
		d, err := set.Decide(t.Context(), requestFor(t, strings.Fields(c.asked)...))
		if err != nil || d.Verdict.String() != c.verdict || shown(d.Exceptions) != c.want {
			t.Errorf("%s: %v, %v, %q, want %s, %q", c.asked, err, d.Verdict, shown(d.Exceptions), c.verdict, c.want)
			continue
		}
		again, err := set.Replay(t.Context(), d.Input)
		if err != nil || shown(again.Exceptions) != c.want {
			t.Errorf("%s: evaluated again: %v, %q", c.asked, err, shown(again.Exceptions))
		}
		x, err := set.Explain(t.Context(), d.Input)
		if err != nil || shown(x.Decision.Exceptions) != c.want {
			t.Errorf("%s: explained: %v, %q", c.asked, err, shown(x.Decision.Exceptions))
		}
		for range 2 {
			if remembered, err := replayer.Replay(t.Context(), d.Input); err != nil || shown(remembered.Exceptions) != c.want {
				t.Errorf("%s: remembered: %v, %q", c.asked, err, shown(remembered.Exceptions))
			}
		}
	}
}
