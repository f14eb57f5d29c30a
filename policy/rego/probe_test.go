package rego

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// TestPrepareProbes: a policy that passes all checks and its tests, and cannot decide
// recent inputs, does not become active; the error has the location.
func TestPrepareProbes(t *testing.T) {
	good := mustLoad(t, org("allow contains {\"rule\": \"x\"}"))
	for name, c := range map[string]struct{ files, at, says string }{
		"an entry of a wrong shape": {org("allow contains {\"rule\": \"a\"}\n\nallow contains {\"rule\": \"x\", \"message\": input.target.port} if input.target.host == \"api.partner.example\""), "egress/a.rego:5", "message is not a string"},
		"a builtin's error":         {org("allow contains {\"rule\": \"x\"} if {\n\tinput.target.host != \"warm-up.invalid\"\n\tnet.cidr_contains(\"10.0.0.0/8\", input.target.host)\n}"), "egress/a.rego:5", "net.cidr_contains"},
		"functions that conflict":   {org("f(x) := 1 if x > 1\n\nf(x) := 2 if x > 2\n\nallow contains {\"rule\": \"x\"} if f(input.target.port) == 1"), "egress/a.rego:", "conflict"},
		"no end":                    {org("allow contains {\"rule\": \"x\"} if {\n\tinput.target.host != \"warm-up.invalid\"\n\tsome a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 3000)\n\ta * b == -1\n}"), "egress/a.rego:", "exceeds its deadline of"},
		"a repository's own":        {org("allow contains {\"rule\": \"x\"}") + "-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\ndeny contains {\"rule\": \"y\", \"message\": input.target.port}\n", "repositories/acme/payments/a.rego:3", "message is not a string"},
	} {
		t.Run(name, func(t *testing.T) {
			var e Engine
			e.Swap(good)
			bad, err := Load(t.Context(), snapshot(t, c.files), Options{Names: true, Deadline: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Prepare(t.Context(), bad); err != nil {
				t.Errorf("refused before anything was asked: %v", err)
			}
			if _, err := e.Decide(t.Context(), requestFor(t)); err != nil {
				t.Fatal(err)
			}
			err = e.Prepare(t.Context(), bad)
			faults, ok := errors.AsType[Errors](err)
			if !ok || len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), c.at) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %s and %q", err, c.at, c.says)
			}
			if e.Current() != good {
				t.Error("preparing has swapped")
			}
			// A policy that only decides differently is not refused.
			if err := e.Prepare(t.Context(), mustLoad(t, org("deny contains {\"rule\": \"n\"}"))); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRecentInputsAreBounded: the number of recent inputs is bounded, and one busy step
// does not displace the others.
func TestRecentInputsAreBounded(t *testing.T) {
	var e Engine
	e.Swap(mustLoad(t, org("allow contains {\"rule\": \"x\"}")))
	for range 2 * maxRecent {
		if _, err := e.Decide(t.Context(), requestFor(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.Recent(); n != 1 {
		t.Errorf("%d inputs are remembered of one input", n)
	}
	for i := range 4 * maxRecent {
		r := requestFor(t)
		r.Target.Host = fmt.Sprintf("h%d.example", i)
		if _, err := e.Decide(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.Recent(); n > maxRecent || n < maxRecent/2 {
		t.Errorf("%d inputs are remembered", n)
	}
}

// TestEndlessPolicyIsRefused: a policy whose evaluation does not end does not load, and
// the error has the location. Without the check it loads, and every decision is cut at its
// deadline.
func TestEndlessPolicyIsRefused(t *testing.T) {
	files := org("allow contains {\"rule\": \"x\"} if {\n\tsome a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 30000)\n\ta + b == input.target.port + 100000\n}")
	_, err := Load(t.Context(), snapshot(t, files), Options{Names: true})
	if err == nil || !strings.HasPrefix(err.Error(), "egress/a.rego:") || !strings.Contains(err.Error(), "exceeds its deadline of") {
		t.Errorf("%v", err)
	}
	set, err := loadWithout(t, checkEnds, files, Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := set.Decide(t.Context(), requestFor(t)); d.Verdict != policy.Deny || err == nil {
		t.Errorf("%s", described(d, err))
	}
}

// TestFailedTestsAreTheirOwnKind: a failure of tests has an error type of its own.
func TestFailedTestsAreTheirOwnKind(t *testing.T) {
	_, err := Load(t.Context(), snapshot(t, org("allow contains {\"rule\": \"x\"}")+"-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_x if false\n"), Options{Names: true})
	if _, ok := errors.AsType[TestsFailed](err); !ok {
		t.Errorf("%T: %v", err, err)
	}
	if faults, ok := errors.AsType[Errors](err); !ok || len(faults) != 1 || faults[0].File != "egress/a_test.rego" || faults[0].Line != 3 {
		t.Errorf("%v", err)
	}
}
