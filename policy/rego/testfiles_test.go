package rego

import "testing"

// TestTestFiles: tests that are not run, or that pass for another reason than intended,
// are found.
func TestTestFiles(t *testing.T) {
	const policy = "-- egress/a.rego --\npackage sallyport.egress\n\ndeny contains {\"rule\": \"no-paste-sites\"} if input.target.host == \"pastebin.example\"\n\n" +
		"report contains {\"rule\": \"observed\"} if not input.principal.repository.full_name in data.rollout.enforced\n-- data/rollout/a.yaml --\nenforced: []\n"
	test := func(body string) string {
		return policy + "-- egress/a_test.rego --\npackage sallyport.egress_test\n\nimport data.sallyport.egress\n\n" + body + "\n"
	}
	const (
		at    = "egress/a_test.rego:5:"
		asked = `with input as {"target": {"host": "a.example", "port": 443}}`
	)
	checkMeanings(t, []meaning{
		{name: "a test", files: test(`test_a if egress.deny == set() ` + asked)},
		{name: "a capital", files: test(`Test_a if egress.deny == set() ` + asked), at: at, message: "name it test_a"},
		{name: "no underscore", files: test(`testa if egress.deny == set() ` + asked), at: at, message: "name it test_a"},
		{name: "a letter less", files: test(`tst_a if egress.deny == set() ` + asked), at: at, message: "name it test_a"},
		{name: "two letters swapped", files: test(`tset_a if egress.deny == set() ` + asked), at: at, message: "name it test_a"},
		{name: "in the plural", files: test(`tests_a if egress.deny == set() ` + asked), at: at, message: "name it test_a"},
		{name: "another name", unread: true, files: test(`pastes_are_closed if egress.deny == set() ` + asked), at: at, message: "name it test_pastes_are_closed", warning: true},
		{name: "a fixture", files: test("test_a if egress.deny == set() with input as asked\n\nasked := {\"target\": {\"host\": \"a.example\", \"port\": 443}}")},

		{name: "no input", files: test(`test_a if egress.deny == set()`), at: at, message: "without an input", warning: true},
		{name: "no input, in a comprehension", files: test(`test_a if {e.rule | some e in egress.deny} == set()`), at: at, message: "without an input", warning: true},
		{name: "an input of the whole expression", files: test(`test_a if {e.rule | some e in egress.deny} == set() ` + asked)},
		{name: "a part of the input", files: test(`test_a if egress.deny == set() with input.target as {"host": "a.example", "port": 443}`)},

		{name: "an unknown field", files: test(`test_a if egress.deny == set() with input as {"targt": {"host": "a.example", "port": 443}}`), at: at, message: `no request has input.targt`, warning: true},
		{name: "an unknown field below", files: test(`test_a if egress.deny == set() with input as {"target": {"hots": "a.example", "port": 443}}`), at: at, message: `did you mean "host"?`, warning: true},
		{name: "an unknown part", files: test(`test_a if egress.deny == set() with input.targt as {"host": "a.example", "port": 443}`), at: at, message: `no request has input.targt`, warning: true},
		{name: "a port as a text", files: test(`test_a if egress.deny == set() with input as {"target": {"host": "a.example", "port": "443"}}`), at: at, message: "input.target.port is a number and not a text", warning: true},
		{name: "a repository as a text", files: test(`test_a if egress.deny == set() with input as {"principal": {"repository": "acme/website"}}`), at: at, message: "input.principal.repository is an object and not a text", warning: true},
		{name: "a target as an object", files: test(`test_a if egress.deny == set() with input as {"action": {"connect": true}}`), at: at, message: "input.action is a text and not an object", warning: true},
		{name: "an input that is a text", files: test(`test_a if egress.deny == set() with input as "a.example"`), at: at, message: "input is an object and not a text", warning: true},
		{name: "a value that no request has", files: test(`test_a if egress.deny == set() with input as {"action": "CONNECT"}`), at: at, message: `input.action is never "CONNECT"`, warning: true},
		{name: "through a name", files: test("test_a if {\n\tasked := {\"target\": {\"hots\": \"a.example\"}}\n\tegress.deny == set() with input as asked\n}"), at: "egress/a_test.rego:6:", message: "input.target.hots", warning: true},
		{name: "through a rule", files: test("test_a if egress.deny == set() with input as asked\n\nasked := {\"target\": {\"hots\": \"a.example\"}}"), at: "egress/a_test.rego:7:", message: "input.target.hots", warning: true},
		{name: "through a function", files: test("test_a if egress.deny == set() with input as asks(\"a.example\")\n\nasks(host) := {\"target\": {\"hots\": host}}"), at: "egress/a_test.rego:7:", message: "input.target.hots", warning: true},
		{name: "through object.union", files: test(`test_a if egress.deny == set() with input as object.union({"action": "connect"}, {"target": {"prot": 443}})`), at: at, message: `did you mean "port"?`, warning: true},
		{name: "a header", files: test(`test_a if egress.deny == set() with input as {"request": {"method": "GET", "path": "/", "headers": {"x-any": "1"}}}`)},

		{name: "a document that nothing reads", files: test(`test_a if count(egress.report) == 1 ` + asked + ` with data.rollout.enforcd as ["acme/x"]`), at: at, message: "did you mean data.rollout.enforced?", warning: true},
		{name: "a document that is read", files: test(`test_a if egress.report == set() ` + asked + ` with data.rollout.enforced as ["acme/x"] with data.rollout as {}`)},
		{name: "an unknown set", files: test(`test_a if not egress.denny ` + asked), at: at, message: "there is no rule denny, so this never has a value: did you mean deny?"},
		{name: "a set without a rule", files: test(`test_a if not egress.delegate ` + asked)},
		{name: "every of a set", files: test("test_a if {\n\tdenies := egress.deny " + asked + "\n\tevery d in denies { d.rule == \"no-paste-sites\" }\n}"), at: "egress/a_test.rego:7:", message: "holds for an empty set as well", warning: true},
		{name: "every beside a count", files: test("test_a if {\n\tdenies := egress.deny " + asked + "\n\tcount(denies) == 1\n\tevery d in denies { d.rule == \"no-paste-sites\" }\n}")},
		{name: "the same on both sides", files: test(`test_a if egress.deny == egress.deny ` + asked), at: at, message: "this condition always holds", warning: true},
		{name: "a count of 0 and more", files: test(`test_a if count(egress.deny) >= 0 ` + asked), at: at, message: "this condition always holds", warning: true},
		{name: "a count that is not -1", files: test(`test_a if count(egress.deny) != -1 ` + asked), at: at, message: "this condition always holds", warning: true},
		{name: "a misspelled id", files: test(`test_a if not "no-past-sites" in {e.rule | some e in egress.deny} ` + asked), at: at, message: `no rule has the id "no-past-sites": did you mean "no-paste-sites"?`, warning: true},
	})
	// The same kind in rules that decide.
	checkMeanings(t, []meaning{
		{name: "a rule that does not exist", files: org("deny contains {\"rule\": \"d\"} if not data.sallyport.egress.enforcd\n\nenforced if input.target.port == 443"), at: inOrg + "3:", message: "did you mean enforced?"},
	})
}
