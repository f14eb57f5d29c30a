package rego

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	inOrg  = "egress/a.rego:"
	inRepo = "repositories/acme/tools/a.rego:"
)

// hostile are policies that must not load, each with the place and a part of the
// message that its author must see.
var hostile = []struct {
	name, files, at, message string
}{
	// Places and packages.
	{"rego at the top", "-- a.rego --\npackage sallyport.egress\n", "a.rego:1:1", "policies are not read from this folder"},
	{"rego below data", "-- data/a.rego --\npackage sallyport.egress\n", "data/a.rego:1:1", "policies are not read from this folder"},
	{"rego in a folder of egress", "-- egress/x/a.rego --\npackage sallyport.egress\n", "egress/x/a.rego:1:1", "policies are not read from this folder"},
	{"rego for a workspace", "-- repositories/acme/a.rego --\npackage sallyport.egress\n", "repositories/acme/a.rego:1:1", "policies are not read from this folder"},
	{"a folder in upper case", "-- repositories/acme/Tools/a.rego --\npackage sallyport.egress\n", "repositories/acme/Tools/a.rego:1:1", "no repository has the name"},
	{"a folder named by UUIDs", "-- repositories/922e118c-f34f-4226-a897-0e0afbec553d/5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11/a.rego --\npackage x\n", "repositories/922e118c-f34f-4226-a897-0e0afbec553d/5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11/a.rego:1:1", "known by their names"},
	{"another package", "-- egress/a.rego --\npackage acme\n", "egress/a.rego:1:1", "package acme does not belong into this folder: write: package sallyport.egress"},
	{"the root package", "-- egress/a.rego --\npackage sallyport\n\negress.allow contains {\"rule\": \"x\"}\n", "egress/a.rego:1:1", "package sallyport does not belong"},
	{"the library's package", "-- egress/a.rego --\npackage sallyport.lib\n\nhost_in(_, _)\n", "egress/a.rego:1:1", "package sallyport.lib does not belong"},
	{"the organization's package in a repository", "-- repositories/acme/tools/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"x\"}\n", inRepo + "1:1", "does not belong into this folder: write: package sallyport.repository[\"acme/tools\"]"},
	{"another repository's package", "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n", inRepo + "1:1", "does not belong into this folder"},
	{"a package below its own", "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"].more\n", inRepo + "1:1", "does not belong into this folder"},
	{"a package split in two", "-- repositories/acme/tools/a.rego --\npackage sallyport.repository.acme.tools\n", inRepo + "1:1", "does not belong into this folder"},
	{"the parent of all repositories", "-- repositories/acme/tools/a.rego --\npackage sallyport.repository\n\n\"acme/payments\".allow contains {\"rule\": \"x\"}\n", inRepo, ""},
	{"a system package", "-- egress/a.rego --\npackage system.authz\n", "egress/a.rego:1:1", "does not belong into this folder"},
	{"a file that is too long", "-- egress/a.rego --\npackage sallyport.egress\n" + strings.Repeat("# long\n", 200_000), "egress/a.rego:1:1", "over 1 MiB"},

	// What does not parse or compile.
	{"an empty file", "-- egress/a.rego --\n", "egress/a.rego:1:1", "empty"},
	{"no policy language", org("allow everything"), inOrg + "3", ""},
	{"old syntax", org("allow[x] { x := 1 }"), inOrg + "3", ""},
	{"an unclosed brace", org("allow contains {\"rule\": \"x\"} if {"), inOrg, ""},
	{"brackets without an end", org("p := " + strings.Repeat("[", 200_000)), inOrg + "3", ""},
	{"brackets with an end", org("p := " + strings.Repeat("[", 150_000) + strings.Repeat("]", 150_000)), inOrg + "3", ""},
	{"negations without an end", org("p if " + strings.Repeat("not ", 100_000)), inOrg + "3", ""},
	{"an unsafe variable", org("allow contains {\"rule\": \"x\"} if input.target.host == y"), inOrg + "3", "y is unsafe"},
	{"an unused variable", org("allow contains {\"rule\": \"x\"} if { y := 1 }"), inOrg + "3", "assigned var y unused"},
	{"an unused import", org("import data.hosts\n\nallow contains {\"rule\": \"x\"}"), inOrg + "3", "import data.hosts unused"},
	{"comprehensions in one another", org("allow contains {\"rule\": \"x\"} if " + strings.Repeat("count([1 | ", 200) + "input.target.port == 443" + strings.Repeat("]) == 1", 200)), inOrg + "3", "more than 8 comprehensions stand in one another"},
	{"recursion", org("p if q\n\nq if p"), inOrg + "3", "recursive"},
	{"a wrong type", org("allow contains {\"rule\": \"x\"} if input.target.port == \"443\""), inOrg + "3", "match error"},
	{"a name that does not exist", org("allow contains {\"rule\": \"x\"} if partner_host"), inOrg + "3", "partner_host is unsafe"},
	{"a future keyword", org("import future.keywords.or\n\nallow contains {\"rule\": \"x\"}"), inOrg + "3", ""},

	// Unknown fields of the input.
	{"an unknown field", org("allow contains {\"rule\": \"x\"} if input.target.hostname == \"a.example\""), inOrg + "3", "input.target.hostname is not in the input: did you mean input.target.host?"},
	{"an unknown field at the top", org("allow contains {\"rule\": \"x\"} if input.targets.host == \"a.example\""), inOrg + "3", "did you mean input.target?"},
	{"an unknown field of the principal", org("deny contains {\"rule\": \"x\"} if input.principal.repo.full_name == \"acme/tools\""), inOrg + "3", "is not in the input"},
	{"a field below a string", org("deny contains {\"rule\": \"x\"} if input.principal.branch.name == \"main\""), inOrg + "3", "is not in the input"},
	{"a comment that gives the input another type", org("# METADATA\n# schemas:\n#   - input: {type: object}\ndeny contains {\"rule\": \"x\"} if input.target.hostname == \"a.example\""), inOrg + "6", "is not in the input"},

	// Builtins.
	{"http.send", org("allow contains {\"rule\": \"x\"} if http.send({\"method\": \"get\", \"url\": \"http://192.0.2.1\"}).status_code == 200"), inOrg + "3", "http.send is not available in a policy: it reaches outside"},
	{"a DNS query", org("allow contains {\"rule\": \"x\"} if count(net.lookup_ip_addr(input.target.host)) > 0"), inOrg + "3", "net.lookup_ip_addr is not available"},
	{"the environment", org("allow contains {\"rule\": \"x\"} if opa.runtime().env.HOME"), inOrg + "3", "opa.runtime is not available"},
	{"chance", org("allow contains {\"rule\": \"x\"} if rand.intn(\"x\", 2) == 1"), inOrg + "3", "rand.intn is not available"},
	{"a random UUID", org("allow contains {\"rule\": \"x\"} if uuid.rfc4122(\"x\") != \"\""), inOrg + "3", "uuid.rfc4122 is not available"},
	{"a schema that is fetched", org("allow contains {\"rule\": \"x\"} if json.match_schema({}, {\"$ref\": \"http://192.0.2.1\"})[0]"), inOrg + "3", "json.match_schema is not available"},
	{"a token", org("allow contains {\"rule\": \"x\"} if io.jwt.decode_verify(\"a.b.c\", {})[0]"), inOrg + "3", "io.jwt.decode_verify is not available"},
	{"the system's roots", org("allow contains {\"rule\": \"x\"} if crypto.x509.parse_and_verify_certificates(\"x\")[0]"), inOrg + "3", "is not available"},
	{"an endless shift", org("allow contains {\"rule\": \"x\"} if bits.lsh(1, 1000000000000) > 0"), inOrg + "3", "bits.lsh is not available"},
	{"an endless expansion", org("allow contains {\"rule\": \"x\"} if count(net.cidr_expand(\"::/0\")) > 0"), inOrg + "3", "net.cidr_expand is not available"},
	{"a removed builtin under another name", org("deny contains {\"rule\": \"x\"} if lower(\"x\") == \"x\" with lower as http.send"), inOrg + "3", ""},
	{"a policy that reads policies", org("allow contains {\"rule\": \"x\"} if rego.parse_module(\"a\", \"package a\")"), inOrg + "3", "rego.parse_module is not available"},

	// Definitions.
	{"report in a repository", repo("report contains {\"rule\": \"x\"}"), inRepo + "3", "a repository's policy cannot define report"},
	{"delegate in a repository", repo("delegate contains {\"rule\": \"x\"}"), inRepo + "3", "a repository's policy cannot define delegate"},
	{"report by reference", repo("report.x := 1"), inRepo + "3", "a repository's policy cannot define report"},
	{"a rule that looks like another package's", repo("sallyport.egress.allow contains {\"rule\": \"x\"}"), inRepo + "3", "a rule's name is relative to its package"},
	{"a rule below egress", repo("egress.allow contains {\"rule\": \"x\"}"), inRepo + "3", "a rule's name is relative to its package"},
	{"a rule below data", repo("data.sallyport.egress.allow contains {\"rule\": \"x\"}"), inRepo + "3", ""},
	{"a rule that replaces the input", org("input := {\"target\": {\"host\": \"a\"}}"), inOrg + "3", ""},
	{"a test among the rules", org("test_x if true"), inOrg + "3", "a test does not belong among the rules"},

	// The sets.
	{"allow as a boolean", org("allow if true"), inOrg + "3", "allow is a set of entries"},
	{"allow by default", org("default allow := true"), inOrg + "3", "allow is a set of entries"},
	{"allow as a function", org("allow(x) := x"), inOrg + "3", "allow is a set of entries"},
	{"allow as an object", org("allow[\"x\"] := true"), inOrg + "3", "allow is a set of entries"},
	{"allow below itself", org("allow.more contains {\"rule\": \"x\"}"), inOrg + "3", "allow is a set of entries"},
	{"an entry that is a string", org("allow contains \"x\""), inOrg + "3", "an entry of allow is written out as an object"},
	{"an entry from a variable", org("allow contains entry if entry := {\"rule\": \"x\"}"), inOrg + "3", "an entry of allow is written out as an object"},
	{"an entry from data", org("allow contains data.entries[_]"), inOrg + "3", "an entry of allow is written out as an object"},
	{"no id", org("allow contains {\"message\": \"x\"}"), inOrg + "3", "the entry has no rule id"},
	{"an id from data", org("allow contains {\"rule\": data.id}"), inOrg + "3", "a rule id is a literal string"},
	{"an id from a call", org("allow contains {\"rule\": sprintf(\"%d\", [1])}"), inOrg + "3", "a rule id is a literal string"},
	{"an empty id", org("allow contains {\"rule\": \"\"}"), inOrg + "3", "is not a rule id"},
	{"an id with a line break", org("allow contains {\"rule\": \"a\\nb\"}"), inOrg + "3", "is not a rule id"},
	{"an id twice", org("allow contains {\"rule\": \"x\", \"message\": \"a\"} if input.target.port == 1\n\nallow contains {\"rule\": \"x\", \"message\": \"b\"} if input.target.port == 2"), inOrg + "5", "the id \"x\" is in use at egress/a.rego:3"},
	{"an id twice, apart", org("allow contains {\"rule\": \"x\"} if input.target.port == 1\n\np := 1\n\nallow contains {\"rule\": \"x\"} if input.target.port == 2"), inOrg + "7", "the id \"x\" is in use"},
	{"an id in two files", org("deny contains {\"rule\": \"x\"}") + "-- egress/b.rego --\npackage sallyport.egress\n\ndeny contains {\"rule\": \"x\"}\n", "egress/b.rego:3", "the id \"x\" is in use at egress/a.rego:3"},
	{"an unknown key", org("allow contains {\"rule\": \"x\", \"expire\": \"2026-12-01T00:00:00Z\"}"), inOrg + "3", "allow has no key \"expire\": did you mean \"expires\"?"},
	{"a mistyped always", org("deny contains {\"rule\": \"x\", \"enforce_in_report_mod\": true}"), inOrg + "3", "deny has no key \"enforce_in_report_mod\": did you mean \"enforce_in_report_mode\"?"},
	{"always in an allow", org("allow contains {\"rule\": \"x\", \"enforce_in_report_mode\": true}"), inOrg + "3", "allow has no key \"enforce_in_report_mode\": only deny has it"},
	{"a key from data", org("deny contains {\"rule\": \"x\", data.key: true}"), inOrg + "3", "a key of an entry is a literal string"},
	{"a wrong protocol", org("allow contains {\"rule\": \"x\", \"protocol\": \"ssh\"}"), inOrg + "3", "protocol is neither \"tls\" nor \"any\""},
	{"an address that is a string", org("allow contains {\"rule\": \"x\", \"allow_ip_literal\": \"true\"}"), inOrg + "3", "allow_ip_literal is neither true nor false"},
	{"an ech that is a string", org("allow contains {\"rule\": \"x\", \"ech\": \"true\"}"), inOrg + "3", "ech is neither true nor false"},
	{"a no_sni in a deny", org("deny contains {\"rule\": \"x\", \"no_sni\": true}"), inOrg + "3", "deny has no key \"no_sni\": only allow has it"},
	{"a mistyped no_sni", org("allow contains {\"rule\": \"x\", \"no_sin\": true}"), inOrg + "3", "allow has no key \"no_sin\": did you mean \"no_sni\"?"},
	{"an always that is a number", org("deny contains {\"rule\": \"x\", \"enforce_in_report_mode\": 1}"), inOrg + "3", "enforce_in_report_mode is neither true nor false"},
	{"an end that is not a time", org("allow contains {\"rule\": \"x\", \"expires\": \"soon\"}"), inOrg + "3", "expires is not an RFC 3339 time"},
	{"a limit without a unit", org("allow contains {\"rule\": \"x\", \"limits\": {\"idle\": \"30\"}}"), inOrg + "3", "limits has a idle"},
	{"a negative limit", org("allow contains {\"rule\": \"x\", \"limits\": {\"bytes_sent\": -1}}"), inOrg + "3", "limits has a bytes_sent"},
	{"an unknown limit", org("allow contains {\"rule\": \"x\", \"limits\": {\"size\": 1}}"), inOrg + "3", "limits has the unknown key"},
	{"a message that is a list", org("deny contains {\"rule\": \"x\", \"message\": [\"a\"]}"), inOrg + "3", "message is not a string"},

	// Reads.
	{"the organization's rules", repo("allow contains {\"rule\": \"x\"} if count(data.sallyport.egress.allow) > 0"), inRepo + "3", "a repository's policy cannot read sallyport.egress"},
	{"the organization's helpers, imported", repo("import data.sallyport.egress\n\nallow contains {\"rule\": \"x\"} if egress.helper"), inRepo + "5", "a repository's policy cannot read sallyport.egress"},
	{"another repository's rules", repo("allow contains {\"rule\": \"x\"} if count(data.sallyport.repository[\"acme/payments\"].allow) > 0"), inRepo + "3", "a repository's policy cannot read sallyport.repository"},
	{"all repositories' rules", repo("allow contains {\"rule\": \"x\"} if data.sallyport.repository[_].allow"), inRepo + "3", "a repository's policy cannot read sallyport.repository"},
	{"data as a whole", repo("allow contains {\"rule\": \"x\"} if { x := data; x.sallyport }"), inRepo + "3", "without a literal name"},
	{"data by a variable", repo("allow contains {\"rule\": \"x\"} if { some n; data[n] }"), inRepo + "3", "without a literal name"},
	{"data by a computed name", repo("allow contains {\"rule\": \"x\"} if data[concat(\"\", [\"sally\", \"port\"])]"), inRepo + "3", "without a literal name"},
	{"sallyport by a variable", repo("allow contains {\"rule\": \"x\"} if { some n; data.sallyport[n].allow }"), inRepo + "3", "without a literal name"},
	{"walking data", repo("allow contains {\"rule\": \"x\"} if { walk(data, [p, _]); p[0] == \"sallyport\" }"), inRepo + "3", "without a literal name"},
	{"data by object.get", repo("allow contains {\"rule\": \"x\"} if object.get(data, [\"sallyport\", \"egress\"], 1) != 1"), inRepo + "3", "without a literal name"},
	{"data in brackets", repo("allow contains {\"rule\": \"x\"} if data.hosts[data.sallyport.egress.x]"), inRepo + "3", "cannot read sallyport.egress"},
	{"data deep in brackets", repo("allow contains {\"rule\": \"x\"} if data.hosts[[data.sallyport.egress.x][0]]"), inRepo + "3", "cannot read sallyport.egress"},
	{"data in a comprehension", repo("p := [x | some x in data.sallyport.egress.allow]"), inRepo + "3", "cannot read sallyport.egress"},
	{"data in every", repo("allow contains {\"rule\": \"x\"} if every x in data.sallyport.egress.allow { x.rule }"), inRepo + "3", "cannot read sallyport.egress"},
	{"data in a template string", repo("p := $\"{data.sallyport.egress.x}\""), inRepo + "3", "cannot read sallyport.egress"},
	{"data imported as a whole", repo("import data as d\n\nallow contains {\"rule\": \"x\"} if d.sallyport.egress.x"), inRepo + "", ""},
	{"data in a head", repo("p := data.sallyport.egress.x"), inRepo + "3", "cannot read sallyport.egress"},
	{"a function replaced", repo("allow contains {\"rule\": \"x\"} if p with regex.match as [1]\n\np if regex.match(`a`, input.target.host)"), inRepo + "3", "a rule cannot replace regex.match"},
	{"a function of one name replaced", repo("allow contains {\"rule\": \"x\"} if indexof_n(input.target.host, \"a\") with indexof_n as [1]"), inRepo + "3", "a rule cannot replace indexof_n"},
	{"the library replaced", repo("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, []) with lib.host_in as true"), inRepo + "5", "a rule cannot replace data"},
	{"the time replaced", repo("allow contains {\"rule\": \"x\"} if time.now_ns() > 1 with time.now_ns as 2"), inRepo + "3", "a rule cannot replace time.now_ns"},
	{"data replaced", repo("allow contains {\"rule\": \"x\"} if p with data.hosts as [1]\n\np if data.hosts"), inRepo + "3", "a rule cannot replace data"},
	{"another's data replaced", repo("allow contains {\"rule\": \"x\"} if p with data.sallyport.egress.deny as set()\n\np := 1"), inRepo + "3", "cannot"},
	{"the value of with", repo("allow contains {\"rule\": \"x\"} if p with input as data.sallyport.egress\n\np := 1"), inRepo + "3", "cannot read sallyport.egress"},
	{"a repository, by the organization", org("allow contains {\"rule\": \"x\"} if data.sallyport.repository[\"acme/tools\"].helper"), inOrg + "3", "the organization's policy cannot read sallyport.repository"},
	{"all policies, by the organization", org("deny contains {\"rule\": \"x\"} if count(data.sallyport) > 2"), inOrg + "3", "without a literal name"},
	{"a test's fixtures", org("allow contains {\"rule\": \"x\"} if data.sallyport.egress_test.fixture"), inOrg + "3", "cannot read sallyport.egress_test"},

	// Denies that would not fire.
	{"a head with the deployment", org("deny contains {\"rule\": \"x\", \"message\": input.principal.deployment.name}"), inOrg + "3", "the head of a deny reads input.principal.deployment, which is absent for a step that deploys nothing"},
	{"a head with the branch in a call", org("deny contains {\"rule\": \"x\", \"message\": sprintf(\"%s\", [input.principal.branch])}"), inOrg + "3", "the head of a deny reads input.principal.branch"},
	{"a head through an alias", org("deny contains {\"rule\": \"x\", \"message\": p.branch} if p := input.principal"), inOrg + "3", "the head of a deny reads input.principal.branch"},
	{"a head through an import", org("import input.principal as p\n\ndeny contains {\"rule\": \"x\", \"message\": p.branch}"), inOrg + "5", "the head of a deny reads input.principal.branch"},
	{"a head through a rule", org("who := input.principal.branch\n\ndeny contains {\"rule\": \"x\", \"message\": who}"), inOrg + "5", "the head of a deny reads input.principal.branch"},
	{"a head by a variable", org("deny contains {\"rule\": \"x\", \"message\": input.request.headers[h]} if some h in [\"a\"]"), inOrg + "3", "the head of a deny reads input.request"},
	{"a head with a function", org("f(x) := x if x == \"y\"\n\ndeny contains {\"rule\": \"x\", \"message\": f(input.target.host)}"), inOrg + "5", "calls a function that may have no value"},
	{"a head with a document that is not there", org("deny contains {\"rule\": \"x\", \"message\": data.messages.nothing}"), inOrg + "3", "reads data.messages.nothing, which may be absent"},

	// Hosts.
	{"a bare star", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {\"*\"})"), inOrg + "5", "a bare * is not a host pattern"},
	{"a bare star with a port", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.target_in(input.target, [\"*:443\"])"), inOrg + "5", "a bare * is not a host pattern"},

	// Data.
	{"data that claims to be policy", org("p := 1") + "-- data/x.yaml --\na: 1\nsallyport: {egress: {allow: [{rule: x}]}}\n", "data/x.yaml:2:1", "data.sallyport is the namespace of policies"},
	{"a folder that claims to be policy", org("p := 1") + "-- data/sallyport/lib/x.json --\n{\"a\": 1}\n", "data/sallyport/lib/x.json:1:1", "data.sallyport is the namespace of policies"},
	{"broken YAML", org("p := 1") + "-- data/x.yaml --\na: [1\n", "data/x.yaml:", "not YAML"},
	{"broken JSON", org("p := 1") + "-- data/x.json --\n{\"a\": }\n", "data/x.json:1", "not JSON"},
	{"a list at the top", org("p := 1") + "-- data/x.yaml --\n- a\n", "data/x.yaml:1", "a data file holds an object"},
	{"a doubled key", org("p := 1") + "-- data/x.yaml --\na: 1\nb: 2\na: 3\n", "data/x.yaml:3", ""},
	{"a doubled key in JSON", org("p := 1") + "-- data/x.json --\n{\"a\": 1,\n\"a\": 2}\n", "data/x.json:2", "the key \"a\" occurs twice"},
	{"the same key in two files", org("p := 1") + "-- data/h/x.yaml --\na: 1\n-- data/h/y.yaml --\n\na: 2\n", "data/h/y.yaml:2:1", "\"a\" is defined in data/h/x.yaml:1 as well"},
	{"a key that is a folder", org("p := 1") + "-- data/a.yaml --\nh: 1\n-- data/h/y.yaml --\na: 2\n", "data/h/y.yaml:1", "its folder is already a value, in data/a.yaml:1"},
	{"a key that is a number", org("p := 1") + "-- data/x.yaml --\n1: a\n", "data/x.yaml:1", "is not a string"},
	{"an alias", org("p := 1") + "-- data/x.yaml --\na: &x [1]\nb: *x\n", "data/x.yaml:1", "anchors, aliases and merge keys are not read"},
	{"a tag", org("p := 1") + "-- data/x.yaml --\na: !!binary aGk=\n", "data/x.yaml:1", "tags are not read"},
	{"two documents", org("p := 1") + "-- data/x.yaml --\na: 1\n---\nb: 1\n", "data/x.yaml:3", "second document"},
	{"not a number", org("p := 1") + "-- data/x.yaml --\na: .nan\n", "data/x.yaml:1", "not a value that JSON has"},
	{"a deep document", org("p := 1") + "-- data/x.yaml --\na: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n", "data/x.yaml:1", "nested too deeply"},
	{"a deep JSON document", org("p := 1") + "-- data/x.json --\n{\"a\": " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}\n", "data/x.json:1", "nested too deeply"},
	{"bytes that are not text", org("p := 1") + "-- data/x.yaml --\na: \xff\n", "data/x.yaml:1:1", "not UTF-8"},

	// Tests.
	{"a test file that defines allow", org("p := 1") + "-- egress/a_test.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"x\"}\n", "egress/a_test.rego:3", "defines tests only, and allow is none"},
	{"a test file that defines a helper", org("p := 1") + "-- egress/a_test.rego --\npackage sallyport.egress\n\nhelper := 1\n", "egress/a_test.rego:3", "defines tests only, and helper is none"},
	{"a test file of another package", org("p := 1") + "-- egress/a_test.rego --\npackage sallyport.lib\n\ntest_x if true\n", "egress/a_test.rego:1:1", "does not belong into this test file: write: package sallyport.egress_test"},
	{"a test that is not run", org("p := 1") + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntodo_test_x if true\n", "egress/a_test.rego:3", "a test that is not run is not a test"},
	{"a repository's test that reads the organization's rules", repo("allow contains {\"rule\": \"x\"}") + "-- repositories/acme/tools/a_test.rego --\npackage sallyport.repository_test[\"acme/tools\"]\n\ntest_x if count(data.sallyport.egress.allow) == 0\n", "repositories/acme/tools/a_test.rego:3", "cannot read sallyport.egress"},
	{"a test that fails", org("p := 1\n\nallow contains {\"rule\": \"x\"} if p == 1") + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_x if data.sallyport.egress.p == 2\n", "egress/a_test.rego:3", "the test test_x failed"},
	{"a test that divides by zero", org("p := 0\n\nallow contains {\"rule\": \"x\"} if p == 1") + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_x if 1 / data.sallyport.egress.p == 2\n", "egress/a_test.rego:3", "the test test_x failed"},
	{"a test without a policy", "-- egress/a_test.rego --\npackage sallyport.egress_test\n\ntest_x if false\n", "egress/a_test.rego:3", "the test test_x failed"},
}

// TestPoliciesThatDoNotLoad: each of these policies is refused, with the position and the
// message.
func TestPoliciesThatDoNotLoad(t *testing.T) {
	if len(hostile) < 60 {
		t.Errorf("only %d rows", len(hostile))
	}
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if raceFactor > 1 && strings.HasPrefix(tc.name, "brackets") {
				// A build with the race detector has larger frames, and ends at the stack limit first.
				tc.at, tc.message = "egress/a.rego:", "stack limit"
			}
			_, err := Load(t.Context(), snapshot(t, tc.files), Options{Names: true})
			expect(t, err, tc.at, tc.message)
		})
	}
}

// TestWithoutNames loads policies where only UUIDs are known.
func TestWithoutNames(t *testing.T) {
	for _, tc := range []struct{ name, files, at, message string }{
		{"the workspace's slug", org("allow contains {\"rule\": \"x\"} if input.principal.workspace.slug == \"acme\""), inOrg + "3:33", "input.principal.workspace.slug is a name, and identity.bitbucket.api is not configured: configure it, or compare the uuid"},
		{"the full name", org("deny contains {\"rule\": \"x\"} if input.principal.repository.full_name == \"acme/tools\""), inOrg + "3", "full_name is a name"},
		{"the project", org("deny contains {\"rule\": \"x\"} if not input.principal.repository.project == \"PAY\""), inOrg + "3", "project is a name"},
		{"the deployment's type", org("deny contains {\"rule\": \"x\"} if input.principal.deployment.type == \"test\""), inOrg + "3", "deployment.type is a name"},
		{"through an alias", org("deny contains {\"rule\": \"x\"} if { d := input.principal.deployment; d.slug == \"x\" }"), inOrg + "3", "deployment.slug is a name"},
		{"through object.get", org("deny contains {\"rule\": \"x\"} if object.get(input.principal, [\"deployment\", \"name\"], \"\") == \"x\""), inOrg + "3", "deployment.name is a name"},
		{"by a variable", org("deny contains {\"rule\": \"x\"} if { some k; input.principal.repository[k] == \"acme/tools\" }"), inOrg + "3", "is a name"},
		{"in a comprehension", org("deny contains {\"rule\": \"x\"} if count({input.principal.repository.full_name | input.target.port == 443}) > 0"), inOrg + "3", "is a name"},
		{"a folder", repo("allow contains {\"rule\": \"x\"}"), inRepo + "1:1", "the name of this folder needs names"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(t.Context(), snapshot(t, tc.files), Options{})
			expect(t, err, tc.at, tc.message)
			if tc.name == "a folder" {
				return
			}
			if _, err := Load(t.Context(), snapshot(t, tc.files), Options{Names: true}); err != nil {
				t.Errorf("with names it does not load either: %v", err)
			}
		})
	}
}

// TestAllErrorsAtOnce: the mistakes of several files are reported together, in order.
func TestAllErrorsAtOnce(t *testing.T) {
	_, err := Load(t.Context(), snapshot(t, `
-- data/x.yaml --
sallyport: 1
-- egress/a.rego --
package acme
-- egress/b.rego --
package sallyport.egress

allow if true

deny contains {"rule": "x", "why": "y"}
-- repositories/acme/tools/a.rego --
package sallyport.repository["acme/tools"]

allow contains {"rule": "x"} if input.host == "a.example"
-- lost.rego --
package lost
`), Options{Names: true})
	var got []string
	errs, _ := errors.AsType[Errors](err)
	for _, e := range errs {
		got = append(got, fmt.Sprintf("%s:%d", e.File, e.Line))
	}
	want := "data/x.yaml:1 egress/a.rego:1 egress/b.rego:3 egress/b.rego:5 lost.rego:1 repositories/acme/tools/a.rego:3"
	if strings.Join(got, " ") != want {
		t.Errorf("errors at %s\nwant      %s\n%v", strings.Join(got, " "), want, err)
	}
}
