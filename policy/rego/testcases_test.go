package rego

import (
	"fmt"
	"strings"
	"testing"
)

// TestCases: each case of a test with a table has a result of its own, with its line,
// and a test without a case fails.
func TestCases(t *testing.T) {
	policy := org(`deny contains {"rule": "x"} if input.target.host == "b.example"`) + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\nimport data.sallyport.egress\n\n"
	const condition = "\tcount(egress.deny) == c.n with input as {\"action\": \"connect\", \"target\": {\"host\": c.h, \"port\": 443}}\n}\n"
	for _, c := range []struct{ name, test, want string }{
		// Case 3.
		{"one of two", "test_hosts[name] if {\n\tsome name, c in {\n\t\t\"ok\": {\"n\": 0, \"h\": \"a.example\"},\n\t\t\"bad\": {\"n\": 9, \"h\": \"b.example\"},\n\t}\n" + condition,
			`FAIL 8 test_hosts/bad the case "bad" failed; PASS 7 test_hosts/ok`},
		{"an empty table", "test_hosts[name] if {\n\tsome name, c in {}\n" + condition, "FAIL 5 test_hosts no case was run: its table is empty, or a condition before its cases never holds"},
		{"an empty list", "test_hosts[i] if {\n\tsome i, c in []\n" + condition, "FAIL 5 test_hosts no case was run"},
		{"a table that is filtered", "test_hosts[name] if {\n\tsome name, c in {\"x\": {\"n\": 0, \"h\": \"a.example\", \"skip\": true}}\n\tnot c.skip\n" + condition, `FAIL 6 test_hosts/x the case "x" failed`},
		{"two tables", "test_hosts[group][name] if {\n\tsome group, cases in {\"g\": {\n\t\t\"a\": {\"n\": 0, \"h\": \"a.example\"},\n\t\t\"b\": {\"n\": 0, \"h\": \"b.example\"},\n\t}}\n\tsome name, c in cases\n" + condition,
			`FAIL 8 test_hosts/g/b the case "g/b" failed; PASS 7 test_hosts/g/a`},
		{"a list", "test_hosts[i] if {\n\tsome i, c in [{\"n\": 0, \"h\": \"a.example\"}, {\"n\": 0, \"h\": \"b.example\"}]\n" + condition, `FAIL 5 test_hosts/1 the case "1" failed; PASS 5 test_hosts/0`},
		{"a table with a name", "table := {\"bad\": {\"n\": 9, \"h\": \"a.example\"}}\n\ntest_hosts[name] if {\n\tsome name, c in table\n" + condition, `FAIL 7 test_hosts/bad the case "bad" failed`},
		{"no table", "test_host if {\n\tc := {\"n\": 1, \"h\": \"b.example\"}\n" + condition, "PASS 5 test_host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report, err := Test(t.Context(), snapshot(t, policy+c.test), Options{Names: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range report.Results {
				verdict := "PASS"
				if !r.Passed {
					verdict = "FAIL"
				}
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %d %s %s", verdict, r.Line, r.Name, r.Message)))
			}
			if text := strings.Join(got, "; "); !strings.HasPrefix(text, strings.TrimSuffix(c.want, "…")) && !strings.Contains(text, c.want) {
				t.Errorf("got\n%s\nwant\n%s", text, c.want)
			}
			if _, err := Load(t.Context(), snapshot(t, policy+c.test), Options{Names: true}); (err == nil) == strings.Contains(c.want, "FAIL") {
				t.Errorf("it loads: %v", err)
			}
		})
	}
}

// TestIdleTests: a test that cannot fail, and a condition that always holds, are found.
func TestIdleTests(t *testing.T) {
	policy := org(`deny contains {"rule": "x"} if input.target.host == "b.example"`) + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\nimport data.sallyport.egress\n\nask := {\"target\": {\"host\": \"b.example\", \"port\": 443}}\n\nids(set) := {entry.rule | some entry in set}\n\nused := egress.deny\n\n"
	const at = "egress/a_test.rego:11:"
	found := func(name, test, message string) meaning {
		return meaning{name: name, files: policy + test + "\n", at: at, message: message, warning: true}
	}
	good := func(name, test string) meaning { return meaning{name: name, files: policy + test + "\n"} }
	const always, never = "this condition always holds", "cannot fail"
	checkMeanings(t, []meaning{
		found("a bare set", `test_x if egress.deny with input as ask`, always),
		found("a bare count", `test_x if count(egress.deny) with input as ask`, always),
		found("a bare comprehension", `test_x if {e | some e in egress.deny} with input as ask`, always),
		found("a bare function", `test_x if ids(egress.deny) with input as ask`, always),
		found("names alone", `test_x if { denies := egress.deny with input as ask; rules := ids(denies); n := count(rules); print(n) }`, never),
		found("a bare name", `test_x if { denies := egress.deny with input as ask; denies }`, always),
		found("beside a condition", `test_x if { egress.deny with input as ask; count(egress.deny) == 1 with input as ask }`, always),
		found("true", `test_x if true`, never),
		found("a value", `test_x := true`, never),
		found("numbers", `test_x if 1 < 2`, always),
		found("every of nothing", `test_x if every e in [] { e == egress.deny }`, never),
		good("a comparison", `test_x if count(egress.deny) == 1 with input as ask`),
		good("an empty set", `test_x if egress.deny == set() with input as object.union(ask, {"target": {"host": "a.example"}})`),
		good("a name that is compared", `test_x if { denies := egress.deny with input as ask; ids(denies) == {"x"} }`),
		good("some", `test_x if { some e in egress.deny with input as ask; e.rule == "x" }`),
		good("a table", "test_x[name] if {\n\tsome name, n in {\"one\": 1}\n\tcount(egress.deny) == n with input as ask\n}"),
	})
}
