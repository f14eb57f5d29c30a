package rego

import (
	"strings"
	"testing"
)

const withLib = "import data.sallyport.lib\n\n"

// TestHostLists: lists of hosts, in rules and documents, that never match, and values of
// another type, are found.
func TestHostLists(t *testing.T) {
	in := func(list string) string {
		return org(withLib+`deny contains {"rule": "p"} if lib.host_in(input.target.host, data.sites)`) + "-- data/x.yaml --\n" + list + "\n"
	}
	targets := func(list string) string {
		return org(withLib+`allow contains {"rule": "p"} if lib.target_in(input.target, data.sites)`) + "-- data/x.yaml --\n" + list + "\n"
	}
	literal := func(list string) string {
		return org(withLib + `deny contains {"rule": "p"} if lib.host_in(input.target.host, ` + list + `)`)
	}
	const doc = "data/x.yaml:"
	checkMeanings(t, []meaning{
		// Case 9.
		{name: "a URL", files: in("sites: [https://pastebin.example/]"), at: doc + "1:9", message: `"https://pastebin.example/" never matches: a host has no scheme`, warning: true},
		{name: "a text", files: in("sites: pastebin.example"), at: doc + "1:1", message: "this is a text and never matches: lib.host_in needs a list of host patterns"},
		{name: "null", files: in("sites:"), at: doc + "1:1", message: "this is null and never matches"},
		{name: "true", files: in("sites: true"), at: doc + "1:1", message: "this is true"},
		{name: "a number", files: in("sites: 443"), at: doc + "1:1", message: "this is a number"},
		{name: "a dot before it", files: in("sites:\n  - .x.example"), at: doc + "2:5", message: `write *.x.example`, warning: true},
		{name: "upper case", files: in("sites:\n  X.example: {}"), at: doc + "2:3", message: "a host is in lower case: write x.example", warning: true},
		{name: "a star without a dot", files: in("sites: [\"*x.example\"]"), at: doc + "1:9", message: "a * stands only at the beginning, before a dot", warning: true},
		{name: "a star within", files: in("sites: [api.*.example]"), at: doc + "1:9", message: "a * stands only at the beginning", warning: true},
		{name: "a bare star", files: in("sites: [\"*\"]"), at: doc + "1:9", message: "a bare * is not a host pattern"},
		{name: "a port", files: in("sites: [\"x.example:443\"]"), at: doc + "1:9", message: "a host has no scheme and no port", warning: true},
		{name: "one level too deep", files: in("sites: {hosts: [a.example]}"), at: doc + "1:9", message: `the hosts are one level too deep, below "hosts"`},
		{name: "one level too deep, by keys", files: in("sites:\n  hosts:\n    a.example: {}"), at: doc + "2:3", message: "one level too deep"},
		{name: "a list in a list", files: in("sites: [[a.example]]"), at: doc + "1:9", message: "an entry is a list and never matches"},
		{name: "a host with a port, by mistake an object", files: in("sites:\n  - b.example: 443"), at: doc + "2:", message: `write the host alone, "b.example", or use lib.target_in and put it in quotes: "b.example:443"`},
		{name: "an entry that is a number", files: in("sites: [10.5]"), at: doc + "1:9", message: "an entry is a number"},
		{name: "two in one", files: in("sites: [\"a.example, b.example\"]"), at: doc + "1:9", message: "never matches", warning: true},
		{name: "a space", files: in("sites: [\"a.example \"]"), at: doc + "1:9", message: "there is a space before or behind it: write a.example", warning: true},
		{name: "an invisible character", files: in("sites: [\"a.\u200bexample\"]"), at: doc + "1:9", message: "an invisible character, U+200B", warning: true},
		{name: "a byte order mark within", files: in("sites: [\"\ufeffa.example\"]"), at: doc + "1:9", message: "an invisible character, U+FEFF", warning: true},
		{name: "not ASCII", files: in("sites: [bücher.example]"), at: doc + "1:9", message: "A-labels", warning: true},
		{name: "a network", files: in("sites: [10.0.0.0/8]"), at: doc + "1:9", message: "use net.cidr_contains", warning: true},
		{name: "an address in another form", files: in("sites: [\"2001:DB8::1\"]"), at: doc + "1:9", message: "write 2001:db8::1", warning: true},
		{name: "a label that is too long", files: in("sites: [\"" + longLabel + ".example\"]"), at: doc + "1:9", message: "never matches", warning: true},
		{name: "false as a value", files: in("sites: {a.example: false}"), at: doc + "1:9", message: "false does not remove it", warning: true},
		{name: "an empty list of a deny", files: in("sites: []"), at: doc + "1:1", message: "the list is empty, so the deny at egress/a.rego:5 never fires", warning: true},
		{name: "in JSON", files: org(withLib+`deny contains {"rule": "p"} if lib.host_in(input.target.host, data.sites)`) + "-- data/x.json --\n{\n\"sites\": [\"a.example\",\n\"B.example\"]}\n", at: "data/x.json:3:", message: "write b.example", warning: true},
		{name: "good patterns", files: in("sites:\n  - a.example\n  - \"*.b.example\"\n  - 192.0.2.1\n  - \"2001:db8::1\"\n  - my_bucket.s3.example\n  - localhost")},
		{name: "good keys", files: in("sites:\n  a.example: {}\n  \"*.b.example\": {owner: kim}")},

		{name: "literal: a text", files: literal(`"pastebin.example"`), at: inOrg + "5:", message: "needs a list of host patterns"},
		{name: "literal: one level too deep", files: literal(`[["a.example"]]`), at: inOrg + "5:", message: "an entry is a list"},
		{name: "literal: a URL", files: literal(`{"https://a.example/"}`), at: inOrg + "5:64", message: "no scheme", warning: true},

		{name: "target: a host with a port", files: targets("sites: [\"a.example:8443\", \"[2001:db8::1]:443\", b.example]")},
		{name: "target: port 0", files: targets("sites: [\"a.example:0\"]"), at: doc + "1:9", message: "never matches", warning: true},
		{name: "target: a port above all", files: targets("sites: [\"a.example:65536\"]"), at: doc + "1:9", message: "there is no port above 65535", warning: true},
		{name: "target: a name of a port", files: targets("sites: [\"a.example:https\"]"), at: doc + "1:9", message: "a port has digits alone", warning: true},
		{name: "target: a zero before it", files: targets("sites: [\"a.example:0443\"]"), at: doc + "1:9", message: "never matches", warning: true},
		{name: "target: a range", files: targets("sites: [\"a.example:1-9\"]"), at: doc + "1:9", message: "a port has digits alone", warning: true},
		{name: "target: a URL", files: targets("sites: [\"https://a.example\"]"), at: doc + "1:9", message: "no scheme", warning: true},
		{name: "target: b: 443", files: targets("sites:\n  - a.example\n  - b.example: 443"), at: doc + "3:", message: `put it in quotes: "b.example:443"`},
		{name: "target: a port among keys", files: targets("sites: {\"a.example:8443\": {}}"), at: doc + "1:9", message: "write the entries as a list", warning: true},
	})
}

const longLabel = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestOperandsAreFollowed: the same mistakes are found however the rule gets the list.
func TestOperandsAreFollowed(t *testing.T) {
	const doc = "-- data/x.yaml --\nsites: [https://a.example/]\nby:\n  one: {hosts: [https://a.example/]}\nnames: [Acme/Payments]\n"
	rule := func(body string) string {
		if !strings.Contains(body, "lib.") {
			return org(body) + doc
		}
		return org(withLib+body) + doc
	}
	const at, message = "data/x.yaml:1:9", "no scheme"
	checkMeanings(t, []meaning{
		{name: "a name", files: rule(`deny contains {"rule": "p"} if { sites := data.sites; lib.host_in(input.target.host, sites) }`), at: at, message: message, warning: true},
		{name: "a rule", files: rule("deny contains {\"rule\": \"p\"} if lib.host_in(input.target.host, sites)\n\nsites := data.sites"), at: at, message: message, warning: true},
		{name: "a set of rules", files: rule("deny contains {\"rule\": \"p\"} if lib.host_in(input.target.host, sites)\n\nsites contains site if some site in data.sites"), at: at, message: message, warning: true},
		{name: "a function", files: rule("deny contains {\"rule\": \"p\"} if listed(data.sites)\n\nlisted(sites) if lib.host_in(input.target.host, sites)"), at: at, message: message, warning: true},
		{name: "a union", files: rule(`deny contains {"rule": "p"} if lib.host_in(input.target.host, {s | some s in data.sites} | {"b.example"})`), at: at, message: message, warning: true},
		{name: "object.get", files: rule(`deny contains {"rule": "p"} if lib.host_in(input.target.host, object.get(data, ["sites"], []))`), at: inOrg, message: "without a literal name"},
		{name: "object.get below", files: rule(`deny contains {"rule": "p"} if lib.host_in(input.target.host, object.get(data.by, ["one", "hosts"], []))`), at: "data/x.yaml:3:17", message: message, warning: true},
		{name: "each of several", files: rule(`deny contains {"rule": "p"} if { some list in data.by; lib.host_in(input.target.host, list.hosts) }`), at: "data/x.yaml:3:17", message: message, warning: true},
		{name: "by a wildcard", files: rule(`deny contains {"rule": "p"} if lib.host_in(input.target.host, data.by[_].hosts)`), at: "data/x.yaml:3:17", message: message, warning: true},
		{name: "every", files: rule(`deny contains {"rule": "p"} if every list in data.by { lib.host_in(input.target.host, list.hosts) }`), at: "data/x.yaml:3:17", message: message, warning: true},
		{name: "in", files: rule(`deny contains {"rule": "p"} if input.target.host in data.sites`), at: at, message: message, warning: true},
		{name: "some and ==", files: rule(`deny contains {"rule": "p"} if { some site in data.sites; input.target.host == site }`), at: at, message: message, warning: true},
		{name: "an import", files: org("import data.sallyport.lib\nimport data.sites\n\ndeny contains {\"rule\": \"p\"} if lib.host_in(input.target.host, sites)") + doc, at: at, message: message, warning: true},
		{name: "a repository's", files: repo(withLib+`deny contains {"rule": "p"} if lib.host_in(input.target.host, data.sites)`) + doc, at: at, message: message, warning: true},
		{name: "a full name", files: rule(`report contains {"rule": "p"} if not input.principal.repository.full_name in data.names`), at: "data/x.yaml:4:9", message: `"Acme/Payments" never matches: a full name is in lower case`, warning: true},
	})
}

// TestLibraryOperands: wrong arguments of the library's other functions are found.
func TestLibraryOperands(t *testing.T) {
	rule := func(condition string) string { return org(withLib + `deny contains {"rule": "p"} if ` + condition) }
	within := func(window string) string { return rule("lib.within([" + window + "])") }
	checkMeanings(t, []meaning{
		// Case 20.
		{name: "across midnight", files: within(`{"days": ["mon"], "from": "18:00", "to": "08:00"}`)},
		{name: "one digit", files: within(`{"from": "8:00", "to": "18:30"}`)},
		{name: "a day in capitals", files: within(`{"days": ["Mon", "FRIDAY"], "from": "08:00", "to": "18:30"}`)},
		{name: "to the end of the day", files: within(`{"from": "22:00", "to": "24:00"}`)},
		{name: "no time", files: within(`{"from": "25:00", "to": "18:00"}`), at: inOrg + "5:", message: "from is not a time of the day"},
		{name: "an hour alone", files: within(`{"from": "8", "to": "18:00"}`), at: inOrg + "5:", message: "from is not a time of the day"},
		{name: "a number", files: within(`{"from": 8, "to": "18:00"}`), at: inOrg + "5:", message: "from is not a time of the day"},
		{name: "in another notation", files: within(`{"from": "8am", "to": "18:00"}`), at: inOrg + "5:", message: "from is not a time of the day"},
		{name: "the same", files: within(`{"from": "08:00", "to": "8:00"}`), at: inOrg + "5:", message: "the window ends when it begins"},
		{name: "no end", files: within(`{"from": "08:00"}`), at: inOrg + "5:", message: `a window has no "to"`},
		{name: "a misspelled key", files: within(`{"form": "08:00", "to": "18:00"}`), at: inOrg + "5:", message: `a window has no key "form": did you mean "from"?`},
		{name: "a misspelled optional key", files: within(`{"day": ["mon"], "from": "08:00", "to": "18:00"}`), at: inOrg + "5:", message: `did you mean "days"?`},
		{name: "an unknown day", files: within(`{"days": ["mo"], "from": "08:00", "to": "18:00"}`), at: inOrg + "5:", message: `"mo" is not a day of the week: did you mean "mon"?`},
		{name: "days as a text", files: within(`{"days": "mon", "from": "08:00", "to": "18:00"}`), at: inOrg + "5:", message: "days is a text and not a list"},
		{name: "not a list", files: rule(`lib.within({"from": "08:00", "to": "18:00"})`), at: inOrg + "5:", message: "lib.within needs a list of windows"},
		{name: "windows in a document", files: rule("lib.within(data.night)") + "-- data/x.yaml --\nnight:\n  - from: \"18:00\"\n    too: \"08:00\"\n", at: "data/x.yaml:3:5", message: `did you mean "to"?`},

		{name: "ports", files: rule(`lib.port_in(input.target.port, {443, "8000-8099", "8000 - 8099", "22"})`)},
		{name: "a range with words", files: rule(`lib.port_in(input.target.port, {"8000 to 8099"})`), at: inOrg + "5:", message: "not a range of ports"},
		{name: "a range backwards", files: rule(`lib.port_in(input.target.port, {"8099-8000"})`), at: inOrg + "5:", message: "its end before its beginning"},
		{name: "a port above all", files: rule(`lib.port_in(input.target.port, {65536})`), at: inOrg + "5:", message: "65536 is not a port"},
		{name: "a port alone", files: rule(`lib.port_in(input.target.port, 443)`), at: inOrg + "5:", message: "lib.port_in needs a list"},
		{name: "a range alone", files: rule(`lib.port_in(input.target.port, "8000-8099")`), at: inOrg + "5:", message: "lib.port_in needs a list"},
		{name: "ports in a document", files: rule("lib.port_in(input.target.port, data.ports)") + "-- data/x.yaml --\nports: [443, {from: 1}]\n", at: "data/x.yaml:1:14", message: "an entry is an object"},

		{name: "a time", files: rule(`lib.before("2026-12-31T00:00:00Z")`)},
		{name: "a date", files: rule(`lib.before("2026-12-31")`), at: inOrg + "5:", message: "not a time in UTC"},
		{name: "another zone", files: rule(`lib.since("2026-12-31T00:00:00+01:00")`), at: inOrg + "5:", message: "not a time in UTC"},
		{name: "a number of seconds", files: rule(`lib.since(1798675200)`), at: inOrg + "5:", message: "this is a number and not a time"},
		{name: "a time in a document", files: rule("lib.since(data.from)") + "-- data/x.yaml --\nfrom: 2026-12-31\n", at: "data/x.yaml:1:1", message: "not a time in UTC"},
	})
}

// TestExceptionsThatNeverCount: a missing or misspelled key of an exception is an error.
func TestExceptionsThatNeverCount(t *testing.T) {
	list := func(exception string) string {
		return org(withLib+`allow contains {"rule": "e", "expires": e.until} if some e in lib.exceptions_for(data.exceptions.list, input.principal.repository.full_name, input.target)`) +
			"-- data/exceptions/list.yaml --\nlist:\n  - " + exception + "\n"
	}
	const doc = "data/exceptions/list.yaml:2:"
	checkMeanings(t, []meaning{
		{name: "whole", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z", why: fonts}`)},
		// Case 18.
		{name: "unitl", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1, unitl: "2099-12-31T00:00:00Z"}`), at: doc, message: `an exception has no key "unitl": did you mean "until"?`},
		{name: "no owner", files: list(`{repository: acme/a, hosts: [a.example], ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: `the exception has no "owner", and never counts`},
		{name: "found twice", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1, unitl: "2099-12-31T00:00:00Z"}`) + "-- egress/b.rego --\npackage sallyport.egress\n\nimport data.sallyport.lib\n\nallow contains {\"rule\": \"f\"} if count(lib.exceptions_for(data.exceptions.list, \"acme/a\", input.target)) > 0\n", at: doc, message: `did you mean "until"?`},
		{name: "no ticket", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, until: "2099-12-31T00:00:00Z"}`), at: doc, message: `the exception has no "ticket"`},
		{name: "no end", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1}`), at: doc, message: `the exception has no "until"`},
		{name: "host", files: list(`{repository: acme/a, host: [a.example], owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: `did you mean "hosts"?`},
		{name: "Owner", files: list(`{repository: acme/a, hosts: [a.example], Owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: `did you mean "owner"?`},
		{name: "an empty owner", files: list(`{repository: acme/a, hosts: [a.example], owner: "", ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: "its owner is not a text: name a contact"},
		{name: "a date", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1, until: 2099-12-31}`), at: doc, message: "its end is not a time in UTC"},
		{name: "another zone", files: list(`{repository: acme/a, hosts: [a.example], owner: kim, ticket: A-1, until: "2099-12-31T00:00:00+01:00"}`), at: doc, message: "its end is not a time in UTC"},
		{name: "a host as a text", files: list(`{repository: acme/a, hosts: a.example, owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: "lib.target_in needs a list"},
		{name: "a repository without its workspace", files: list(`{repository: website, hosts: [a.example], owner: kim, ticket: A-1, until: "2099-12-31T00:00:00Z"}`), at: doc, message: "write acme/website", warning: true},
		{name: "one that nothing reads", files: org(`allow contains {"rule": "x"}`) + "-- data/x.yaml --\nlater:\n  - {repository: acme/a, hosts: [a.example], owner: kim, unitl: \"2099-12-31T00:00:00Z\"}\n", at: "data/x.yaml:2:", message: `did you mean "until"?`},
		{name: "by lib.active", files: org(withLib+`allow contains {"rule": "e"} if { some e in data.open; lib.active(e); e.host == input.target.host }`) + "-- data/x.yaml --\nopen:\n  - {host: a.example, owner: kim, ticket: A-1, untill: \"2099-12-31T00:00:00Z\"}\n", at: "data/x.yaml:2:", message: `did you mean "until"?`},
		{name: "not a list", files: list(`x`) + "-- data/exceptions/more.yaml --\nmore: 1\n", at: doc, message: "an exception is an object and not a text"},
		{name: "what is not an exception", files: org(`deny contains {"rule": "x"}`) + "-- data/x.yaml --\nteams:\n  - {repository: acme/a, owner: kim}\n"},
	})
}
