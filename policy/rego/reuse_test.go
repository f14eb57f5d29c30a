package rego

import (
	"strings"
	"testing"
	"time"
)

// TestReuse: of a new revision, only the policies that changed, or read a changed
// document, are checked and tested again.
func TestReuse(t *testing.T) {
	files := func(organization, tools, hosts string) string {
		return "-- egress/a.rego --\npackage sallyport.egress\n\n" + organization + "\n" +
			"-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\n" + tools + "\n" +
			"-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"list\"} if input.target.host in data.hosts.list\n" +
			"-- repositories/acme/payments/a_test.rego --\npackage sallyport.repository_test[\"acme/payments\"]\n\nimport data.sallyport.repository[\"acme/payments\"] as own\n\ntest_list if count(own.allow) == 1 with input as {\"target\": {\"host\": \"a.example\"}}\n" +
			"-- repositories/acme/website/a.rego --\npackage sallyport.repository[\"acme/website\"]\n\ndeny contains {\"rule\": \"w\"} if input.principal.deployment.type == \"production\"\n" +
			"-- data/hosts/x.yaml --\nlist: [" + hosts + "]\n-- data/other/x.yaml --\na: " + organization[:3] + "\n"
	}
	const all, own = "allow contains {\"rule\": \"x\"}", "allow contains {\"rule\": \"own\"}"
	load := func(previous *Set, text string) (*Set, error) {
		return Load(t.Context(), snapshot(t, text), Options{Names: true, Deadline: 5 * time.Second, Previous: previous})
	}
	first, err := load(nil, files(all, own, "a.example"))
	if err != nil || first.Inspected() != 4 {
		t.Fatalf("%d were checked, %v", first.Inspected(), err)
	}
	for name, c := range map[string]struct {
		files string
		want  int // the organization's is always compiled
	}{
		"nothing":           {files(all, own, "a.example"), 1},
		"a repository":      {files(all, own+" if input.target.port == 1", "a.example"), 2},
		"the organization":  {files("deny contains {\"rule\": \"x\"}", own, "a.example"), 1},
		"what one reads":    {files(all, own, "a.example, b.example"), 2},
		"all but documents": {files("deny contains {\"rule\": \"x\"}", own+" if input.target.port == 1", "a.example"), 2},
	} {
		next, err := load(first, c.files)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if next.Inspected() != c.want {
			t.Errorf("%s changed: %d were checked, want %d", name, next.Inspected(), c.want)
		}
		if fresh, err := load(nil, c.files); err != nil || fresh.Revision() != next.Revision() || len(fresh.Warnings()) != len(next.Warnings()) || len(next.Warnings()) == 0 {
			t.Errorf("%s changed: %v, %v\nafresh: %v, %v", name, next.Revision(), next.Warnings(), fresh.Revision(), err)
		}
		// What is known outlives one that knows it.
		if again, err := load(next, c.files); err != nil || again.Inspected() != 1 {
			t.Errorf("%s changed, again: %v", name, err)
		}
	}
	// A test that fails for a document alone is run.
	if _, err := load(first, files(all, own, "b.example")); err == nil || !strings.Contains(err.Error(), "test_list") {
		t.Errorf("%v", err)
	}
	// With names off nothing is known.
	if _, err := Load(t.Context(), snapshot(t, files(all, own, "a.example")), Options{Previous: first}); err == nil {
		t.Error("a policy that reads names loads without them")
	}
	// What passed before is compiled when it is asked for, and not before.
	passed, err := Load(t.Context(), first.Snapshot(), Options{Names: true, Recorded: true, Prechecked: true, SkipTests: true, Deadline: time.Second})
	if err != nil || passed.Inspected() != 1 || passed.Revision() != first.Revision() {
		t.Fatalf("%d, %v", passed.Inspected(), err)
	}
	if next, err := load(passed, files(all, own, "a.example")); err != nil || next.Inspected() != 1 {
		t.Errorf("after one that passed: %v", err)
	}
	if next, err := load(passed, files(all, own, "a.example, b.example")); err != nil || next.Inspected() != 4 {
		t.Errorf("after one that passed, with other documents: %v", err)
	}
}

// TestLibraryIsCompiledWhereItIsNeeded: a policy gets the library however it writes its
// name.
func TestLibraryIsCompiledWhereItIsNeeded(t *testing.T) {
	for _, text := range []string{
		"import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {\"api.partner.example\"})",
		"import data.sallyport.lib as l\n\nallow contains {\"rule\": \"x\"} if l.host_in(input.target.host, {\"api.partner.example\"})",
		"import data.sallyport\n\nallow contains {\"rule\": \"x\"} if sallyport.lib.host_in(input.target.host, {\"api.partner.example\"})",
		"allow contains {\"rule\": \"x\"} if data.sallyport.lib.host_in(input.target.host, {\"api.partner.example\"})",
		"allow contains {\"rule\": \"x\"} if data[\"sallyport\"][\"lib\"].host_in(input.target.host, {\"api.partner.example\"})",
		"allow contains {\"rule\": \"x\"} if data.sallyport[\"l\\u0069b\"].host_in(input.target.host, {\"api.partner.example\"})",
	} {
		set := mustLoad(t, org(text))
		if got := described(set.Decide(t.Context(), requestFor(t))); got != "allow policy_allowed rule=x" {
			t.Errorf("%s\n%s", text, got)
		}
	}
	if set := mustLoad(t, org("allow contains {\"rule\": \"x\"}")); len(set.organization.compiler.Modules) != 1 {
		t.Error("the library is compiled with what does not need it")
	}
}
