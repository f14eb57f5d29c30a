package rego

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestWarnings: valid policies get the warnings of the linter.
func TestWarnings(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"a deny that reads the deployment", "deny contains {\"rule\": \"x\"} if input.principal.deployment.type == \"test\"",
			"egress/a.rego:3:32: this deny does not fire for a step that deploys nothing: it reads input.principal.deployment"},
		{"through a rule", "testing if input.principal.deployment.type == \"test\"\n\ndeny contains {\"rule\": \"x\"} if testing",
			"egress/a.rego:5:32: this deny does not fire for a step that deploys nothing"},
		{"the branch", "deny contains {\"rule\": \"x\"} if input.principal.branch != \"main\"", "this deny does not fire for a run without a branch"},
		{"the request", "deny contains {\"rule\": \"x\"} if input.request.method == \"POST\"", "this deny does not fire for a CONNECT"},
		{"not", "deny contains {\"rule\": \"x\"} if not input.principal.deployment", ""},
		{"not through a rule", "testing if input.principal.deployment.type == \"test\"\n\ndeny contains {\"rule\": \"x\"} if not testing", ""},
		{"object.get", "deny contains {\"rule\": \"x\"} if object.get(input.principal, \"branch\", \"\") != \"main\"", ""},
		{"a default", "default testing := false\n\ntesting if input.principal.deployment.type == \"test\"\n\ndeny contains {\"rule\": \"x\"} if testing == false", ""},
		{"an allow", "allow contains {\"rule\": \"x\"} if input.principal.deployment.type == \"test\"", ""},
		{"a pattern that is compared", "allow contains {\"rule\": \"x\"} if input.target.host == \"*.a.example\"", "is compared literally and never matches: use data.sallyport.lib.host_in"},
		{"a host in upper case", "allow contains {\"rule\": \"x\"} if input.target.host in {\"A.example\"}", "\"A.example\" never matches: a host is in lower case: write a.example"},
		{"a host with a port", "allow contains {\"rule\": \"x\"} if \"a.example:443\" == input.target.host", "a host has no scheme and no port"},
		{"a host with a dot", "allow contains {\"rule\": \"x\"} if input.target.host == \"a.example.\"", "write a.example"},
		{"a URL", "allow contains {\"rule\": \"x\"} if input.target.host == \"https://a.example\"", "a host has no scheme"},
		{"an address", "allow contains {\"rule\": \"x\", \"allow_ip_literal\": true} if input.target.host in {\"192.0.2.1\", \"2001:db8::1\"}", ""},
		{"comments in the way of format", "allow contains {\"rule\": \"x\"} if input.target.host in {\"a.example\", # why\n\t# not\n}", "egress/a.rego:1:1: formatting would lose a comment"},
		{"format", "allow contains {\"rule\":\"x\"}", "egress/a.rego:3: the file is not formatted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			problems, warnings, err := Check(t.Context(), snapshot(t, org(tc.body)), Options{Names: true})
			if err != nil || len(problems) > 0 {
				t.Fatal(err, problems)
			}
			if tc.want == "" && len(warnings) > 0 || !strings.Contains(warnings.Error(), tc.want) {
				t.Errorf("warnings:\n%v\nwant %q", warnings, tc.want)
			}
		})
	}
}

func TestTestReport(t *testing.T) {
	files := org("allow contains {\"rule\": \"x\"} if input.target.port == 443\n\nallow contains {\"rule\": \"y\"} if input.target.port == 7") + `-- egress/a_test.rego --
package sallyport.egress_test

import data.sallyport.egress

test_good if count(egress.allow) == 1 with input as {"target": {"port": 443}}

test_bad if {
	print("the port is", 80)
	count(egress.allow) == 1 with input as {"target": {"port": 80}}
}
`
	report, err := Test(t.Context(), snapshot(t, files), Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 2 || report.Passed() || report.Coverage <= 0 || report.Coverage >= 100 {
		t.Fatalf("report %+v", report)
	}
	for _, r := range report.Results {
		bad := r.Name == "test_bad"
		if r.Passed == bad || r.File != "egress/a_test.rego" || r.Package != "sallyport.egress_test" || bad && !strings.Contains(r.Output, "the port is 80") {
			t.Errorf("result %+v", r)
		}
	}
	if _, err := Load(t.Context(), snapshot(t, files), Options{Names: true}); err == nil || !strings.Contains(err.Error(), "egress/a_test.rego:7:1: the test test_bad failed") {
		t.Errorf("loading: %v", err)
	}
	if _, err := Load(t.Context(), snapshot(t, files), Options{Names: true, SkipTests: true}); err != nil {
		t.Errorf("loading without tests: %v", err)
	}
}

// TestRecordedSetDecidesTheSame: the snapshot of a set loads to the same revision and the
// same decisions, and a library in a tree from outside is not used.
func TestRecordedSetDecidesTheSame(t *testing.T) {
	files := org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {\"api.partner.example\"})")
	set := mustLoad(t, files)
	again, err := Load(t.Context(), set.Snapshot(), Options{Names: true, Recorded: true})
	if err != nil {
		t.Fatal(err)
	}
	if again.Revision() != set.Revision() {
		t.Errorf("revisions %v and %v", set.Revision(), again.Revision())
	}
	if got := described(again.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=x" {
		t.Error(got)
	}
	const forged = "-- vendor/sallyport/hosts.rego --\npackage sallyport.lib\n\nhost_in(_, _)\n"
	outside := mustLoad(t, files+forged)
	if got := described(outside.Decide(t.Context(), requestFor(t, "to=evil.example:443"))); got != "deny no_rule_matched" {
		t.Errorf("with a library of its own: %s", got)
	}
	if outside.Revision() != set.Revision() {
		t.Error("a library that is not used changes the revision")
	}
	changed, err := Load(t.Context(), snapshotOf(t, txtar.Parse([]byte(files+forged))), Options{Names: true, Recorded: true})
	if err != nil {
		t.Fatal(err)
	}
	if changed.Revision() == set.Revision() {
		t.Error("a library that decides differently has the same revision")
	}
}

func TestSetListsItsParts(t *testing.T) {
	set := mustLoad(t, org("deny contains {\"rule\": \"x\"} if input.principal.branch == \"main\"")+repo("allow contains {\"rule\": \"x\"} if input.target.port == 443"))
	if got := set.Repositories(); len(got) != 1 || got[0] != "acme/tools" {
		t.Errorf("repositories %v", got)
	}
	if got := set.Warnings(); len(got) != 1 || got[0].Line != 3 {
		t.Errorf("warnings %v", got)
	}
}
