package rego

import (
	"strings"
	"testing"
)

// TestMissingDocuments: a rule that reads a document that does not exist gets a warning,
// because it never matches.
func TestMissingDocuments(t *testing.T) {
	const documents = "\n-- data/rollout/lists.yaml --\nenforced: [acme/payments]\nhosts: {a.example: {}}\n"
	for body, want := range map[string]string{
		`input.target.host in data.rollout.enforced`:           "",
		`data.rollout.hosts[input.target.host]`:                "",
		`data.rollout[input.target.host]`:                      "",
		`data.rollout.enforced[0] == input.target.host`:        "",
		`input.target.host in data.rollout.enforecd`:           "egress/a.rego:4:23: data.rollout.enforecd is not there: did you mean data.rollout.enforced?",
		`input.target.host in data.nothing.of.that`:            "data.nothing is not there: put it under data/",
		`not input.target.host in data.rolout.enforced`:        "data.rolout is not there: did you mean data.rollout?",
		`some h in object.keys(data.rollout.host); h == "a.b"`: "data.rollout.host is not there: did you mean data.rollout.hosts?",
	} {
		problems, warnings, err := Check(t.Context(), snapshot(t, "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"x\"} if {\n\t"+body+"\n}\n"+documents), Options{Names: true})
		if err != nil || len(problems) > 0 {
			t.Fatalf("%s: %v %v", body, err, problems)
		}
		said := warnings.Error()
		if want == "" && strings.Contains(said, "is not there") || !strings.Contains(said, want) {
			t.Errorf("%s is told %q, want %q", body, said, want)
		}
	}
}
