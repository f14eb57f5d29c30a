package rego

import "testing"

// TestComparisons: a comparison of a field of the input with a value that it never has is
// found.
func TestComparisons(t *testing.T) {
	allow := func(condition string) string { return org(`allow contains {"rule": "x"} if ` + condition) }
	const list = "-- data/x.yaml --\nnames: [acme/payments]\ntypes: [Production]\nbranches: {refs/heads/main: {}}\n"
	checkMeanings(t, []meaning{
		{name: "a type in capitals", files: allow(`input.principal.deployment.type == "Production"`), at: inOrg + "3:68", message: `input.principal.deployment.type is never "Production": did you mean "production"?`},
		{name: "the other way round", files: allow(`"Production" == input.principal.deployment.type`), at: inOrg + "3:33", message: "is never"},
		{name: "one =", files: allow(`input.principal.deployment.type = "prod"`), at: inOrg + "3:", message: `did you mean "production"?`},
		{name: "!=", files: allow(`input.principal.deployment.type != "prod"`), at: inOrg + "3:", message: "is never"},
		{name: "in a set", files: allow(`input.principal.deployment.type in {"staging", "Production"}`), at: inOrg + "3:80", message: "is never"},
		{name: "by a name", files: allow(`{ kind := input.principal.deployment.type; kind == "Production" }`), at: inOrg + "3:", message: "is never"},
		{name: "in a function", files: org("allow contains {\"rule\": \"x\"} if is_production(input.principal.deployment.type)\n\nis_production(kind) if kind == \"Production\""), at: inOrg + "5:", message: "is never"},
		{name: "by a constant", files: org("allow contains {\"rule\": \"x\"} if input.principal.deployment.type in kinds\n\nkinds := {\"Production\"}"), at: inOrg + "5:", message: "is never"},
		{name: "as a key", files: allow(`{"Production": true}[input.principal.deployment.type]`), at: inOrg + "3:", message: "is never"},
		{name: "in a document", files: allow(`input.principal.deployment.type in data.types`) + list, at: "data/x.yaml:2:9", message: "is never"},
		{name: "under not", files: org(`report contains {"rule": "x"} if not input.principal.deployment.type == "Production"`), at: inOrg + "3:", message: "is never"},
		{name: "an action", files: allow(`input.action == "conect"`), at: inOrg + "3:", message: `did you mean "connect"?`},
		{name: "a method as an action", files: allow(`input.action == "CONNECT"`), at: inOrg + "3:", message: `did you mean "connect"?`},
		{name: "a scheme", files: allow(`input.target.scheme == "https"`), at: inOrg + "3:", message: `did you mean "http"?`},
		{name: "a kind", files: allow(`input.principal.kind == "bitbucket-step"`), at: inOrg + "3:", message: `did you mean "bitbucket_step"?`},
		{name: "a UUID with braces", files: allow(`input.principal.repository.uuid == "{5B1B2C5E-7C5A-4F0F-9A9F-0D3A4D4C1B11}"`), at: inOrg + "3:", message: "write 5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11", warning: true},
		{name: "a full name in capitals", files: allow(`input.principal.repository.full_name == "Acme/Payments"`), at: inOrg + "3:", message: "write acme/payments", warning: true},
		{name: "a full name without its workspace", files: allow(`input.principal.repository.full_name == "payments"`), at: inOrg + "3:", message: "a workspace, a slash and a repository", warning: true},
		{name: "a pattern of full names", files: allow(`input.principal.repository.full_name == "acme/*"`), at: inOrg + "3:", message: `use startswith`, warning: true},
		{name: "a project", files: allow(`input.principal.repository.project == "pay"`), at: inOrg + "3:", message: "write PAY", warning: true},
		{name: "a ref", files: allow(`input.principal.branch == "refs/heads/main"`), at: inOrg + "3:", message: "write main", warning: true},
		{name: "refs among keys", files: allow(`data.branches[input.principal.branch]`) + list, at: "data/x.yaml:3:", message: "write main", warning: true},
		{name: "a pattern of branches", files: allow(`input.principal.branch == "release/*"`), at: inOrg + "3:", message: "use startswith", warning: true},
		{name: "a method in lower case", files: allow(`input.request.method in {"get", "HEAD"}`), at: inOrg + "3:", message: "write GET", warning: true},
		{name: "a path without its slash", files: allow(`input.request.path == "v1"`), at: inOrg + "3:", message: "write /v1", warning: true},
		{name: "a query", files: allow(`input.request.path == "/v1?a=b"`), at: inOrg + "3:", message: "a path has no query", warning: true},
		{name: "a network", files: allow(`input.client.address == "10.0.0.0/8"`), at: inOrg + "3:", message: "use net.cidr_contains", warning: true},
		{name: "a port as a text", files: allow(`input.target.port in {"443"}`), at: inOrg + "3:", message: "a port is a number", warning: true},
		{name: "a port above all", files: allow(`input.target.port == 80443`), at: inOrg + "3:", message: "input.target.port is never 80443"},
		{name: "an object and a text", files: allow(`object.get(input.principal, "deployment", "none") != "production"`), at: inOrg + "3:", message: "input.principal.deployment is an object and never a text: compare one of its members: input.principal.deployment.name"},
		{name: "an object in a set", files: allow(`input.principal.repository in {"acme/website"}`), at: inOrg + "3:", message: "input.principal.repository"},
		{name: "what may be", files: allow("{\n\tinput.action == \"connect\"\n\tinput.principal.kind == \"bitbucket_step\"\n\tinput.principal.deployment.type in {\"test\", \"staging\", \"production\"}\n\tinput.principal.repository.full_name in data.names\n\tinput.principal.branch != \"release/1.0\"\n\tinput.target.port in {443, 8443}\n}") + list},
		{name: "one of two fields", files: org("allow contains {\"rule\": \"x\"} if {\n\tis_main(input.principal.branch)\n\tnot is_main(input.principal.deployment.type)\n}\n\nis_main(text) if text == \"main\"")},
	})
}

// TestKnownRepositories: if the names of the repositories are known, another name is
// found.
func TestKnownRepositories(t *testing.T) {
	files := org("report contains {\"rule\": \"x\"} if not input.principal.repository.full_name in data.rollout.enforced") + "-- data/rollout/x.yaml --\nenforced:\n  - acme/payments\n  - acme/paymnets\n" +
		"-- repositories/acme/tolos/a.rego --\npackage sallyport.repository[\"acme/tolos\"]\n\ndeny contains {\"rule\": \"x\"}\n"
	_, warnings, err := Check(t.Context(), snapshot(t, files), Options{Names: true, Repositories: []string{"acme/payments", "acme/tools"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "data/rollout/x.yaml:3:5: no repository is named \"acme/paymnets\": did you mean acme/payments?\nrepositories/acme/tolos/a.rego:1:1: no repository is named \"acme/tolos\": did you mean acme/tools?"
	if warnings.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", warnings, want)
	}
	if _, warnings, err = Check(t.Context(), snapshot(t, files), Options{Names: true}); err != nil || len(warnings) > 0 {
		t.Errorf("without names: %v\n%v", err, warnings)
	}
}

// TestAbsence: a deny that never fires for a request without a part of the input is found,
// however it reads the part.
func TestAbsence(t *testing.T) {
	deny := func(condition string) string { return org(`deny contains {"rule": "r"} if ` + condition) }
	const list = "-- data/x.yaml --\nl: {prod: true}\n"
	const deployment = "this deny does not fire for a step that deploys nothing: it reads input.principal.deployment"
	found := func(name, files, place string) meaning {
		return meaning{name: name, files: files, at: place, message: deployment, warning: true}
	}
	checkMeanings(t, []meaning{
		// Case 10.
		{name: "not startswith", files: deny(`not startswith(input.principal.deployment.slug, "prod")`), at: inOrg + "3:47", warning: true,
			message: deployment + ": if it should, put the expression after not into a rule of its own, and write not with its name; or add a body with not input.principal.deployment"},
		found("not in", deny(`not input.principal.deployment.slug in {"prod"}`), inOrg+"3:"),
		found("not a key", deny(`not data.l[input.principal.deployment.slug]`)+list, inOrg+"3:"),
		found("not a function", org("deny contains {\"rule\": \"r\"} if not is_prod(input.principal.deployment.slug)\n\nis_prod(slug) if startswith(slug, \"prod\")"), inOrg+"3:"),
		found("not in a function", org("deny contains {\"rule\": \"r\"} if is_other(input.principal)\n\nis_other(p) if not startswith(p.deployment.slug, \"prod\")"), ""),
		found("through a rule", org("deny contains {\"rule\": \"r\"} if other\n\nother if not startswith(input.principal.deployment.slug, \"prod\")"), inOrg+"3:32"),
		found("through two rules", org("deny contains {\"rule\": \"r\"} if other\n\nother if another\n\nanother if not startswith(input.principal.deployment.slug, \"prod\")"), inOrg+"3:32"),
		found("by a name", deny("{ slug := input.principal.deployment.slug; not slug == \"prod\" }"), inOrg+"3:"),
		found("in a comprehension", deny(`count([1 | not startswith(input.principal.deployment.slug, "prod")]) > 0`), inOrg+"3:"),
		found("in every", deny(`every word in ["prod"] { not startswith(input.principal.deployment.slug, word) }`), inOrg+"3:"),
		found("in the list of every", deny(`every slug in [input.principal.deployment.slug] { slug != "prod" }`), inOrg+"3:"),
		found("by walk", deny(`{ walk(input.principal.deployment, [_, word]); word == "dev" }`), inOrg+"3:"),
		found("some in", deny(`{ some slug in [input.principal.deployment.slug]; slug != "prod" }`), inOrg+"3:"),
		found("a member of an empty list", deny(`"dev" in [slug | slug := input.principal.deployment.slug]`), inOrg+"3:"),
		found("lower", deny(`not startswith(lower(input.principal.deployment.slug), "prod")`), inOrg+"3:"),
		found("!=", deny(`input.principal.deployment.slug != "prod"`), inOrg+"3:"),
		found("object.get without a default that fires", deny(`object.get(input.principal, ["deployment", "slug"], "prod") != "prod"`), inOrg+"3:"),
		{name: "the branch", files: deny(`not startswith(input.principal.branch, "release/")`), at: inOrg + "3:", message: "this deny does not fire for a run without a branch", warning: true},
		{name: "a header", files: deny(`not startswith(input.request.headers.accept, "text/")`), at: inOrg + "3:", message: "this deny does not fire for a CONNECT, whose content cannot be read", warning: true},

		{name: "not equal, which stays within", files: deny(`not input.principal.deployment.slug == "prod"`)},
		{name: "not a rule", files: org("deny contains {\"rule\": \"r\"} if not prod\n\nprod if startswith(input.principal.deployment.slug, \"prod\")")},
		{name: "a body for it", files: org("deny contains {\"rule\": \"r\"} if not startswith(input.principal.deployment.slug, \"prod\")\n\ndeny contains {\"rule\": \"r\"} if not input.principal.deployment")},
		{name: "a default", files: org("deny contains {\"rule\": \"r\"} if not startswith(slug, \"prod\")\n\ndefault slug := \"\"\n\nslug := input.principal.deployment.slug")},
		{name: "object.get", files: deny(`not startswith(object.get(input.principal, ["deployment", "slug"], ""), "prod")`)},
		{name: "none in a comprehension", files: deny(`count([1 | startswith(input.principal.deployment.slug, "prod")]) == 0`)},
		{name: "an allow", files: org(`allow contains {"rule": "r"} if not startswith(input.principal.deployment.slug, "dev")`)},
	})
}

// TestPartsOfNames: a comparison with a part of a name that other hosts or repositories
// have too is found.
func TestPartsOfNames(t *testing.T) {
	allow := func(condition string) string { return org(`allow contains {"rule": "p"} if ` + condition) }
	deny := func(condition string) string { return org(`deny contains {"rule": "p"} if ` + condition) }
	found := func(name, files, message string) meaning {
		return meaning{name: name, files: files, at: inOrg, message: message, warning: true}
	}
	const list = "-- data/x.yaml --\nends: [partner.example]\n"
	checkMeanings(t, []meaning{
		// Case 19.
		{name: "endswith", files: allow(`endswith(input.target.host, "partner.example")`), at: inOrg + "3:61", warning: true,
			message: `evilpartner.example also ends with "partner.example": use lib.host_in(input.target.host, {"partner.example", "*.partner.example"})`},
		found("endswith lower", allow(`endswith(lower(input.target.host), "partner.example")`), "lib.host_in"),
		found("endswith by a name", allow(`{ host := input.target.host; endswith(host, "partner.example") }`), "lib.host_in"),
		found("endswith in a function", org("allow contains {\"rule\": \"p\"} if ours(input.target.host)\n\nours(host) if endswith(host, \"partner.example\")"), "lib.host_in"),
		{name: "endswith of a document", files: allow(`{ some end in data.ends; endswith(input.target.host, end) }`) + list, at: "data/x.yaml:1:8", message: "lib.host_in", warning: true},
		found("any_suffix_match", allow(`strings.any_suffix_match(input.target.host, ["a.example", "b.example"])`), "evilb.example also ends"),
		found("trim_suffix", allow(`trim_suffix(input.target.host, "partner.example") != input.target.host`), "lib.host_in"),
		found("endswith in a deny under not", deny(`not endswith(input.target.host, "corp.example")`), "lib.host_in"),
		found("startswith", allow(`startswith(input.target.host, "api.")`), "api.evil.example does"),
		found("contains", allow(`contains(input.target.host, "partner")`), "partner.evil.example has"),
		found("indexof", allow(`indexof(input.target.host, "partner") >= 0`), "partner.evil.example has"),
		found("regex without ^", allow("regex.match(`partner\\.example$`, input.target.host)"), "something else before it"),
		found("regex without $", allow("regex.match(`^partner\\.example`, input.target.host)"), "something else behind it"),
		found("regex with .* before it", allow("regex.match(`^.*partner\\.example$`, input.target.host)"), "something else before it"),
		found("regex with .* behind it", allow("regex.match(`^partner\\..*$`, input.target.host)"), "something else behind it"),
		found("regex with one of two without ^", allow("regex.match(`^a\\.example$|b\\.example$`, input.target.host)"), "something else before it"),
		found("regex with a loose dot", allow("regex.match(`^partner.example$`, input.target.host)"), "a dot stands for any byte"),
		found("regex for a repository", allow("regex.match(`acme/.*`, input.principal.repository.full_name)"), "something else before it"),
		found("regex for a branch", allow("regex.match(`main`, input.principal.branch)"), "something else before it"),
		found("glob", allow(`glob.match("*partner.example", ["."], input.target.host)`), "matches evilpartner.example as well"),
		found("a workspace without its slash", allow(`startswith(input.principal.repository.full_name, "acme")`), `write the slash as well: "acme/"`),
		found("the end of a repository", allow(`endswith(input.principal.repository.full_name, "payments")`), "evil-payments"),
		found("a part of a branch", allow(`contains(input.principal.branch, "main")`), "somewhere may be anybody's"),

		{name: "with its dot", files: allow(`endswith(input.target.host, ".partner.example")`)},
		{name: "regex of the whole", files: allow("regex.match(`^api[0-9]+\\.partner\\.example$`, input.target.host)")},
		{name: "regex of whole labels", files: allow("regex.match(`^(.*\\.)?partner\\.example$`, input.target.host)")},
		{name: "regex after a dot", files: allow("regex.match(`(^|\\.)partner\\.example$`, input.target.host)")},
		{name: "glob of a label", files: allow(`glob.match("*.partner.example", ["."], input.target.host)`)},
		{name: "a workspace", files: allow(`startswith(input.principal.repository.full_name, "acme/")`)},
		{name: "a deny may be wide", files: deny(`contains(input.target.host, "pastebin")`)},
		{name: "another text", files: allow(`contains(input.request.path, "packages")`)},
	})
}
