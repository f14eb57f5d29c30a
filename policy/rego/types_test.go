package rego

import "testing"

// TestTypes: conditions that never or always hold because of a value's type are found,
// however the rule gets the value.
func TestTypes(t *testing.T) {
	rule := func(condition string) string { return org(`deny contains {"rule": "p"} if ` + condition) }
	lib := func(condition string) string { return org(withLib + `deny contains {"rule": "p"} if ` + condition) }
	const doc = "-- data/x.yaml --\nname: acme/website\nnames: {acme/website: true}\nports: [\"443\"]\nport: \"443\"\nsites: {a.example: {}}\n"
	checkMeanings(t, []meaning{
		{name: "a port below a text", files: rule(`input.target.port < "1024"`), at: inOrg + "3:", message: "compares a number with a text and always holds"},
		{name: "a port above a text", files: rule(`input.target.port > "1024"`), at: inOrg + "3:", message: "never holds"},
		{name: "a text and a port", files: rule(`"1024" >= input.target.port`), at: inOrg + "3:", message: "compares a text with a number and always holds"},
		{name: "a port and a document", files: rule(`input.target.port >= data.port`) + doc, at: inOrg + "3:", message: "never holds"},
		{name: "a time and a number", files: rule(`input.time > 1790000000`), at: inOrg + "3:", message: "always holds"},
		{name: "a count and a text", files: rule(`count(input.target.host) > 100`)},
		{name: "times", files: rule(`input.time > "2027-01-01T00:00:00Z"`)},
		{name: "through a name and a function", files: rule("low(input.target.port)\n\nlow(port) if port < \"1024\""), at: inOrg + "5:", message: "always holds"},

		{name: "in a text", files: rule(`input.target.host in "a.example"`), at: inOrg + "3:", message: "this is a text and has no members"},
		{name: "in a document's text", files: rule(`input.principal.repository.full_name in data.name`) + doc, at: "data/x.yaml:1:1", message: "write a list"},
		{name: "not in a document's text", files: org(`report contains {"rule": "p"} if not input.principal.repository.full_name in data.name`) + doc, at: "data/x.yaml:1:1", message: "has no members"},
		{name: "in a field", files: rule(`"a.example" in input.target.host`), at: inOrg + "3:", message: "input.target.host is a text and has no members"},
		{name: "some in a text", files: rule(`{ some name in data.name; input.principal.repository.full_name == name }`) + doc, at: "data/x.yaml:1:1", message: "has no members"},
		{name: "every in a text", files: rule(`every name in data.name { input.principal.repository.full_name == name }`) + doc, at: "data/x.yaml:1:1", message: "has no members"},
		{name: "in an object whose keys are meant", files: org(`report contains {"rule": "p"} if not input.principal.repository.full_name in data.names`) + doc, at: "data/x.yaml:2:1", message: "not its keys, so the condition at egress/a.rego:3 never holds"},
		{name: "a host in an object whose keys are meant", files: rule(`input.target.host in data.sites`) + doc, at: "data/x.yaml:5:1", message: "use lib.host_in for hosts"},
		{name: "by its key", files: rule(`data.names[input.principal.repository.full_name]`) + doc},
		{name: "in the values of an object", files: rule(`input.target.host in {"one": "a.example", "two": "b.example"}`)},
		{name: "in a list", files: rule(`input.target.port in {25, 465}`)},

		{name: "a flag that is a text", files: rule(`data.closed`) + "-- data/x.yaml --\nclosed: no\n", at: "data/x.yaml:1:1", message: "as a condition every value but false holds"},
		{name: "a flag in quotes", files: rule(`not data.closed`) + "-- data/x.yaml --\nclosed: \"false\"\n", at: "data/x.yaml:1:1", message: "write true or false"},
		{name: "a flag that is 0", files: rule(`data.closed`) + "-- data/x.yaml --\nclosed: 0\n", at: "data/x.yaml:1:1", message: "this is a number"},
		{name: "a flag without a value", files: rule(`data.closed`) + "-- data/x.yaml --\nclosed:\n", at: "data/x.yaml:1:1", message: "this is null"},
		{name: "a flag through a name and a rule", files: rule("closed\n\nclosed if {\n\tflag := data.closed\n\tflag\n}") + "-- data/x.yaml --\nclosed: off\n", at: "data/x.yaml:1:1", message: "every value but false holds"},
		{name: "a flag compared with true", files: rule(`data.closed == true`) + "-- data/x.yaml --\nclosed: yes\n", at: inOrg + "3:", message: "compares a text with true or false and never holds"},
		{name: "a flag compared with another value", files: rule(`data.closed != true`) + "-- data/x.yaml --\nclosed: \"true\"\n", at: inOrg + "3:", message: "always holds"},
		{name: "a flag", files: rule(`data.closed`) + "-- data/x.yaml --\nclosed: false\n"},

		{name: "an allow without a condition", files: org(`allow contains {"rule": "a"}`), at: inOrg + "3:", message: "it allows every target", warning: true},
		{name: "an allow if true", files: org(`allow contains {"rule": "a"} if true`), at: inOrg + "3:", message: "it allows every target", warning: true},
		{name: "an allow that prints", files: org(`allow contains {"rule": "a"} if print(input)`), at: inOrg + "3:", message: "it allows every target", warning: true},
		{name: "an allow with a field alone", files: org(`allow contains {"rule": "a"} if input.target.host`), at: inOrg + "3:", message: "it allows every target", warning: true},
		{name: "an allow of a repository without a condition", files: repo(`allow contains {"rule": "a"}`), at: "repositories/", message: "it allows every target", warning: true},
		{name: "an allow that has ended", files: org(`allow contains {"rule": "a", "expires": "2025-01-01T00:00:00Z"} if input.target.port == 443`), at: inOrg + "3:", message: "the allow ended at 2025-01-01T00:00:00Z", warning: true},
		{name: "an allow that ends later", files: org(`allow contains {"rule": "a", "expires": "2099-01-01T00:00:00Z"} if input.target.port == 443`)},
		{name: "an allow with a field that may be absent", files: org(`allow contains {"rule": "a"} if input.principal.deployment`)},
		{name: "a report without a condition", files: org(`report contains {"rule": "a"}`)},

		{name: "host_in with two hosts as arguments", files: lib(`lib.host_in(input.target.host, {"a.example"}, "b.example")`), at: inOrg + "5:", message: "lib.host_in takes 2 arguments"},
		{name: "host_in, the wrong way round", files: lib(`lib.host_in({"a.example"}, input.target.host)`), at: inOrg + "5:", message: "lib.host_in needs a text here and this is a set"},
		{name: "host_in of a target", files: lib(`lib.host_in(input.target, {"a.example"})`), at: inOrg + "5:", message: "write lib.host_in(input.target.host"},
		{name: "host_in of a port", files: lib(`lib.host_in(input.target.port, {"a.example"})`), at: inOrg + "5:", message: "this is a number"},
		{name: "target_in of a host", files: lib(`lib.target_in(input.target.host, {"a.example"})`), at: inOrg + "5:", message: "write lib.target_in(input.target"},
		{name: "port_in, the wrong way round", files: lib(`lib.port_in([443], input.target.port)`), at: inOrg + "5:", message: "lib.port_in needs a number here and this is a list"},
		{name: "port_in of a target", files: lib(`lib.port_in(input.target, [443])`), at: inOrg + "5:", message: "write lib.port_in(input.target.port"},
		{name: "exceptions_for of a repository", files: org(withLib+`allow contains {"rule": "e", "expires": e.until} if some e in lib.exceptions_for(data.list, input.principal.repository, input.target)`) + "-- data/x.yaml --\nlist: []\n",
			at: inOrg + "5:", message: "input.principal.repository.full_name"},
		{name: "exceptions_for of a host", files: org(withLib+`allow contains {"rule": "e", "expires": e.until} if some e in lib.exceptions_for(data.list, input.principal.repository.full_name, input.target.host)`) + "-- data/x.yaml --\nlist: []\n",
			at: inOrg + "5:", message: "needs an object here and this is a text"},
	})
}

// TestConstants: constants that a function cannot parse are found; the evaluation would
// fail, and deny every request.
func TestConstants(t *testing.T) {
	rule := func(condition string) string { return org(`deny contains {"rule": "p"} if ` + condition) }
	checkMeanings(t, []meaning{
		{name: "a prefix that is too long", files: rule(`net.cidr_contains("10.0.0.0/33", input.client.address)`), at: inOrg + "3:", message: `"10.0.0.0/33" is not a network`},
		{name: "an address for a network", files: rule(`net.cidr_contains("10.0.0.1", input.client.address)`), at: inOrg + "3:", message: `write "10.0.0.1/32"`},
		{name: "a network in a document", files: rule(`{ some network in data.x; net.cidr_contains(network, input.client.address) }`) + "-- data/x.yaml --\nx: [10.0.0.0/8, 10.0.0/8]\n", at: "data/x.yaml:1:17", message: "is not a network"},
		{name: "the wrong way round", files: rule(`net.cidr_contains(input.client.address, "10.0.0.0/8")`), at: inOrg + "3:", message: "write the network first"},
		{name: "a host that may be a name", files: rule(`net.cidr_contains("10.0.0.0/8", input.target.host)`), at: inOrg + "3:", message: "lib.is_address(input.target.host)", warning: true},
		{name: "a host that is an address", files: org(withLib + "deny contains {\"rule\": \"p\"} if {\n\tlib.is_address(input.target.host)\n\tnet.cidr_contains(\"10.0.0.0/8\", input.target.host)\n}")},
		{name: "a client", files: rule(`net.cidr_contains("10.0.0.0/8", input.client.address)`)},
		{name: "an expression", files: rule(`regex.match("^(a$", input.principal.branch)`), at: inOrg + "3:", message: "not a regular expression"},
		{name: "a lookahead", files: rule(`regex.match("^(?!main$)", input.principal.branch)`), at: inOrg + "3:", message: "RE2 has neither lookaround"},
		{name: "a date", files: rule(`time.now_ns() > time.parse_rfc3339_ns("2027-01-01")`), at: inOrg + "3:", message: "not a time of RFC 3339"},
		{name: "a duration", files: rule(`time.now_ns() > time.parse_duration_ns("1 day")`), at: inOrg + "3:", message: "not a duration"},
	})
}

// TestExceptionsThatRestrictNothing: a key that no rule reads, an empty list of hosts, and
// a day that does not exist are found.
func TestExceptionsThatRestrictNothing(t *testing.T) {
	policy := func(extra, members string) string {
		return org(withLib+`allow contains {"rule": "e", "expires": e.until} if {
	some e in lib.exceptions_for(data.list, input.principal.repository.full_name, input.target)
`+extra+"}") + "-- data/x.yaml --\nlist:\n  - {repository: acme/website, owner: kim, ticket: W-1, " + members + "}\n"
	}
	const good = `hosts: [a.example], until: "2099-01-01T00:00:00Z"`
	checkMeanings(t, []meaning{
		{name: "good", files: policy("", good)},
		{name: "a port", files: policy("", good+", port: 443"), at: "data/x.yaml:2:", message: `nothing reads the key "port"`},
		{name: "a branch", files: policy("", good+", branch: main"), at: "data/x.yaml:2:", message: "it restricts nothing"},
		{name: "a deployment that is read", files: policy("\te.deployment == input.principal.deployment.slug\n", good+", deployment: production")},
		{name: "a note", files: policy("", good+", note: until the new one is there")},
		{name: "no host", files: policy("", `hosts: [], until: "2099-01-01T00:00:00Z"`), at: "data/x.yaml:2:", message: "it has no host"},
		{name: "the 30th of February", files: policy("", `hosts: [a.example], until: "2099-02-30T00:00:00Z"`), at: "data/x.yaml:2:", message: "not a time in UTC"},
		{name: "the URL of a clone", files: policy("", `hosts: [a.example], until: "2099-01-01T00:00:00Z"`) + "-- data/y.yaml --\nenforced: [acme/website.git]\n-- egress/b.rego --\npackage sallyport.egress\n\nreport contains {\"rule\": \"r\"} if not input.principal.repository.full_name in data.enforced\n",
			at: "data/y.yaml:1:", message: "write acme/website", warning: true},
	})
}
