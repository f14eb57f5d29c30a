package rego

import (
	"strings"
	"testing"
)

// TestUnreadDocuments: a document with a misspelled key or folder gets a warning, also if
// the correct one exists.
func TestUnreadDocuments(t *testing.T) {
	policy := org(`report contains {"rule": "r"} if not input.principal.repository.full_name in data.rollout.enforced`+"\n\ndeny contains {\"rule\": \"d\"} if data.lists.hosts[input.target.host]\n") +
		"-- data/rollout/a.yaml --\nenforced: []\n-- data/lists/a.yaml --\nhosts: {a.example: {}}\n"
	checkMeanings(t, []meaning{
		{name: "all are read", unread: true, files: policy},
		{name: "a misspelled key beside the right one", unread: true, files: strings.Replace(policy, "enforced: []\n", "enforced: []\nenforcd: [acme/website]\n", 1), at: "data/rollout/a.yaml:2:1",
			message: "nothing reads data.rollout.enforcd, so it has no effect: did you mean enforced?", warning: true},
		{name: "a key in quotes", unread: true, files: policy + "-- data/lists/b.yaml --\n\"host\": [b.example]\n", at: "data/lists/b.yaml:1:1", message: "did you mean hosts?", warning: true},
		{name: "in JSON", unread: true, files: policy + "-- data/lists/b.json --\n{\n  \"host\": [\"b.example\"]\n}\n", at: "data/lists/b.json:2:1", message: "nothing reads data.lists.host,", warning: true},
		{name: "a misspelled folder", unread: true, files: policy + "-- data/list/b.yaml --\nhosts: [b.example]\n", at: "data/list/b.yaml:1:1", message: "nothing reads data.list.hosts", warning: true},
		{name: "no near name", unread: true, files: policy + "-- data/lists/b.yaml --\nunrelated: 1\n", at: "data/lists/b.yaml:1:1", message: "read it in a rule, or remove it", warning: true},
		{name: "read as a whole", unread: true, files: policy + "-- egress/b.rego --\npackage sallyport.egress\n\ndeny contains {\"rule\": \"e\"} if data.more[_].host == input.target.host\n-- data/more/x/a.yaml --\nhost: b.example\n"},
		{name: "read by a repository's rules", unread: true, files: policy + "-- repositories/acme/website/a.rego --\npackage sallyport.repository[\"acme/website\"]\n\nallow contains {\"rule\": \"e\"} if data.website.host == input.target.host\n-- data/website/a.yaml --\nhost: b.example\n"},
		{name: "read by a test", unread: true, files: policy + "-- egress/b_test.rego --\npackage sallyport.egress_test\n\nimport data.sallyport.egress\n\ntest_a if egress.report == set() with input as {\"principal\": {\"repository\": {\"full_name\": data.fixtures.name}}}\n-- data/fixtures/a.yaml --\nname: acme/website\n"},
		{name: "a folder whose name is misspelled in a document", unread: true, files: strings.Replace(policy, "enforced: []", "enforced: [acme/paymnets]", 1) + "-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"e\"} if input.target.host == \"b.example\"\n",
			at: "repositories/acme/payments/a.rego:1:1", message: "no document names acme/payments, and acme/paymnets has no folder", warning: true},
		{name: "at the root", unread: true, files: policy + "-- data.yaml --\nhosts: [b.example]\n", at: "data.yaml:1:1", message: "documents stand below data/: move it into data/"},
		{name: "no rule for the organization", unread: true, files: "-- repositories/acme/website/a.rego --\npackage sallyport.repository[\"acme/website\"]\n\nallow contains {\"rule\": \"e\"} if input.target.host == \"a.example\"\n", at: "egress:0:0", message: "every request is denied", warning: true},
	})
}
