package rego

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestChecksAreNeeded disables one check of the loader at a time and shows the attack that
// it prevents.
func TestChecksAreNeeded(t *testing.T) {
	everything := "allow contains {\"rule\": \"all\"}\n\n"
	watching := "report contains {\"rule\": \"watching\"}\n\n"
	for _, tc := range []struct {
		check, attack, files string
		options              Options
		question             []string
		damage               string // the decision that must not be
	}{
		{checkKeys, "a mistyped key takes the always off a guardrail",
			org(watching + "deny contains {\"rule\": \"no\", \"allways\": true}"), Options{Names: true}, nil,
			"deny policy_error error"}, // the entry's reader is the second line
		{checkSchema, "a mistyped field takes a deny away",
			org(everything + "deny contains {\"rule\": \"no\"} if input.target.hostname == \"api.partner.example\""), Options{Names: true}, nil,
			"allow policy_allowed rule=all"},
		{checkAbsent, "a head without a value takes a deny away",
			org(everything + "deny contains {\"rule\": \"no\", \"message\": input.principal.deployment.name}"), Options{Names: true}, nil,
			"allow policy_allowed rule=all"},
		{checkNames, "a name that is never known takes a deny away",
			org(everything + "deny contains {\"rule\": \"no\"} if input.principal.workspace.slug == \"acme\""), Options{}, nil,
			"allow policy_allowed rule=all"},
		{checkIDs, "a client chooses what the log says decided",
			org("allow contains {\"rule\": input.target.host}"), Options{Names: true}, []string{"to=approved.by.security.example:443"},
			"allow policy_allowed rule=approved.by.security.example"},
		{checkPackages + ", " + checkDefinitions, "a file in the wrong place takes a deny away",
			org(everything) + "-- egress/b.rego --\npackage sallyport.egres\n\ndeny contains {\"rule\": \"no\"}\n", Options{Names: true}, nil,
			"allow policy_allowed rule=all"},
		{checkReservedData + ", " + checkUndefined, "a document adds to what a policy reads as its own",
			org("allow contains {\"rule\": \"x\"} if data.sallyport.egress.trusted == true\n") + "-- data/x.yaml --\nsallyport: {egress: {trusted: true}}\n", Options{Names: true}, nil,
			"allow policy_allowed rule=x"},
		{checkUnread, "a misspelled rule set takes a deny away",
			org(everything + "dney contains {\"rule\": \"no\"} if input.target.host == \"api.partner.example\""), Options{Names: true}, nil,
			"allow policy_allowed rule=all"},
		{checkUndefined, "a misspelled rule takes a deny away",
			org(everything + "deny contains {\"rule\": \"no\"} if data.sallyport.egress.blockd\n\ndeny contains {\"rule\": \"mail\"} if blocked\n\nblocked if input.target.port == 25"), Options{Names: true}, nil,
			"allow policy_allowed rule=all"},
		{checkSingleNames, "a text without quotes lets every branch through",
			org("allow contains {\"rule\": \"main-only\"} if input.principal.branch = main"), Options{Names: true}, []string{"branch=feature/x"},
			"allow policy_allowed rule=main-only"},
		{checkOperands, "a type in capitals takes a deny away",
			org(everything + "deny contains {\"rule\": \"no\"} if input.principal.deployment.type == \"Production\""), Options{Names: true}, []string{"deployment=production"},
			"allow policy_allowed rule=all"},
		{checkReads, "a rule looks away by replacing data",
			org("allow contains {\"rule\": \"x\"} if listed with data.hosts as [input.target.host]\n\nlisted if input.target.host in data.hosts\n") + "-- data/x.yaml --\nhosts: []\n", Options{Names: true}, nil,
			"allow policy_allowed rule=x"},
	} {
		t.Run(tc.check, func(t *testing.T) {
			if _, err := loadWithout(t, "", tc.files, tc.options); err == nil {
				t.Fatalf("with every check in place it loads: %s", tc.attack)
			}
			set, err := loadWithout(t, tc.check, tc.files, tc.options)
			if err != nil {
				t.Fatalf("without %s it does not load either, so something else is what holds: %v", tc.check, err)
			}
			if got := described(set.Decide(t.Context(), requestFor(t, tc.question...))); got != tc.damage {
				t.Errorf("%s: got %s, want %s", tc.attack, got, tc.damage)
			}
		})
	}
}

// TestTestFilesCannotHideAMissingRule: with the check disabled, the tests of a set pass by
// a rule that the policy in force does not have.
func TestTestFilesCannotHideAMissingRule(t *testing.T) {
	files := org("allow contains {\"rule\": \"all\"}") + `-- egress/a_test.rego --
package sallyport.egress

deny contains {"rule": "no"}

test_denied if count(deny) == 1
`
	if _, err := loadWithout(t, "", files, Options{Names: true}); err == nil {
		t.Fatal("it loads")
	}
	set, err := loadWithout(t, checkTestsOnlyTest, files, Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := described(set.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=all" {
		t.Errorf("got %s", got)
	}
}

// TestCapabilitiesAreNeeded: with OPA's own capabilities a policy reaches a server.
func TestCapabilitiesAreNeeded(t *testing.T) {
	var reached atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	files := org("allow contains {\"rule\": \"x\"} if http.send({\"method\": \"get\", \"url\": \"" + server.URL + "/\" }).status_code == 200")
	if _, err := loadWithout(t, "", files, Options{Names: true}); err == nil {
		t.Fatal("it loads")
	}
	if reached.Load() != 0 {
		t.Error("loading reached the server")
	}
	set, err := loadWithout(t, checkCapabilities, files, Options{Names: true, Deadline: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if got := described(set.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=x" || reached.Load() == 0 {
		t.Errorf("got %s, the server was reached %d times", got, reached.Load())
	}
}

// TestIsolationHoldsWithoutChecks: even with the loader's checks disabled, one
// repository's files define and read nothing of others, because nothing else is compiled
// with them.
func TestIsolationHoldsWithoutChecks(t *testing.T) {
	for _, tc := range []struct{ check, attacker string }{
		{checkPackages + ", " + checkDefinitions, "-- repositories/acme/tools/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"mine\"}\n"},
		{checkPackages + ", " + checkDefinitions, "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"mine\"}\n"},
		{checkReads, repo("allow contains {\"rule\": \"mine\"} if { some n; count(data.sallyport[n].allow) > 0 }")},
	} {
		files := org("delegate contains {\"rule\": \"anybody\"}\n\nallow contains {\"rule\": \"other\"} if input.target.host == \"other.example\"") + tc.attacker
		set, err := loadWithout(t, tc.check, files, Options{Names: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, repository := range []string{"acme/payments", "acme/tools"} {
			if got := described(set.Decide(t.Context(), requestFor(t, "repository="+repository))); got != "deny no_rule_matched" {
				t.Errorf("without %s, %s: %s\n%s", tc.check, repository, got, tc.attacker)
			}
		}
	}
}

// TestOrganizationDeadline: an endless evaluation of the organization's rules is canceled
// at the deadline. The server evaluates them, and OPA checks for cancellation between
// steps. [TestHostilePolicies] is about repositories' rules.
func TestOrganizationDeadline(t *testing.T) {
	t.Parallel()
	// Loading evaluates once, with a deadline of its own: not what is tested.
	const unlessLoading = "input.target.host != \"warm-up.invalid\"; "
	for name, body := range map[string]string{
		"nested loops":  "allow contains {\"rule\": \"x\"} if { " + unlessLoading + "some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); some c in numbers.range(1, 1000); a + b + c == input.target.port + 100000 }",
		"a long range":  "allow contains {\"rule\": \"x\"} if { " + unlessLoading + "count(numbers.range(1, 1000000000)) == 1 }",
		"in a deny":     "allow contains {\"rule\": \"y\"}\n\ndeny contains {\"rule\": \"x\"} if { " + unlessLoading + "some a in numbers.range(1, 3000); some b in numbers.range(1, 30000); a + b == input.target.port + 100000 }",
		"in a function": "f(n) := count([1 | some a in numbers.range(1, n); some b in numbers.range(1, n); a == b + input.target.port])\n\nallow contains {\"rule\": \"x\"} if { " + unlessLoading + "f(100000) == 1 }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, deadline := range []time.Duration{50 * time.Millisecond, 400 * time.Millisecond} {
				set, err := Load(t.Context(), snapshot(t, org(body)), Options{Names: true, Deadline: deadline})
				if err != nil {
					t.Fatal(err)
				}
				d, err := set.Decide(t.Context(), requestFor(t))
				if got := described(d, err); got != "deny policy_error error" || !strings.Contains(err.Error(), "took longer than "+deadline.String()) {
					t.Errorf("got %s, %v", got, err)
				}
				if len(d.Input) == 0 || d.Revision.Digest == "" {
					t.Error("the decision lacks its input or revision")
				}
			}
		})
	}
}

// TestCanceledRequestIsDenied: a canceled context ends the evaluation and denies.
func TestCanceledRequestIsDenied(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"x\"} if { input.target.host != \"warm-up.invalid\"; count(numbers.range(1, 1000000000)) == 1 }"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := set.Decide(ctx, requestFor(t))
	if got := described(d, err); got != "deny policy_error error" || !errors.Is(err, context.Canceled) {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestOrganizationPanic: a panic in the evaluation of the organization's rules is an
// error and a denial. A repository's ends a worker at most: [TestHostilePolicies].
func TestOrganizationPanic(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"all\"}"))
	set.organization.compiler = nil
	d, err := set.Decide(t.Context(), requestFor(t))
	if got := described(d, err); got != "deny policy_error error" || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("got %s, %v", got, err)
	}
}

// TestUndefinedAnswer: a result without a set is an error, not an empty set.
func TestUndefinedAnswer(t *testing.T) {
	set := mustLoad(t, org("allow contains {\"rule\": \"all\"}"))
	set.organization.sets = append(set.organization.sets, setDeny)
	if got := described(set.Decide(t.Context(), requestFor(t))); got != "deny policy_error error" {
		t.Errorf("got %s", got)
	}
}
