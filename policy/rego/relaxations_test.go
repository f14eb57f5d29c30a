package rego

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// TestRelaxations: a note for each relaxation, and none for a rule that relaxes nothing.
func TestRelaxations(t *testing.T) {
	t.Parallel()
	snapshot, err := policy.NewSnapshot([]policy.File{
		{Path: "egress/a.rego", Content: []byte(`package sallyport.egress

allow contains {"rule": "plain", "ech": false, "no_sni": false, "protocol": "tls"} if input.target.port == 1

allow contains {"rule": "browser", "ech": true} if input.target.port == 2

allow contains {"rule": "java", "no_sni": data.flags.java} if input.target.port == 3

allow contains {"rule": "ssh", "protocol": "any"} if input.target.port == 4

deny contains {"rule": "d"} if input.target.port == 5
`)},
		{Path: "egress/a_test.rego", Content: []byte("package sallyport.egress\n\nallow contains {\"rule\": \"t\", \"ech\": true}\n")},
		{Path: "repositories/acme/tools/a.rego", Content: []byte("package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"both\", \"ech\": true, \"no_sni\": true} if input.target.port == 6\n")},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`egress/a.rego:5: rule "browser": ech: true gives up`,
		`egress/a.rego:7: rule "java": no_sni: true gives up`,
		`egress/a.rego:9: rule "ssh": protocol: "any" gives up`,
		`repositories/acme/tools/a.rego:3: rule "both": ech: true gives up`,
		`repositories/acme/tools/a.rego:3: rule "both": no_sni: true gives up`,
	}
	notes := Relaxations(snapshot)
	if len(notes) != len(want) {
		t.Fatalf("%d notes: %v", len(notes), notes)
	}
	for i, n := range notes {
		n.Column = 0
		if !strings.HasPrefix(n.Error(), want[i]) {
			t.Errorf("got %q, want %q", n.Error(), want[i])
		}
	}
}

// TestRelaxationsOfTwoPolicies: a repository's allow relaxes nothing beside an allow of the
// organization that does not relax it.
func TestRelaxationsOfTwoPolicies(t *testing.T) {
	t.Parallel()
	relaxed, strict := entry{rule: "own", ech: true, noSNI: true}, entry{rule: "org"}
	delegates := []entry{{rule: "own-rules"}}
	for name, c := range map[string]struct {
		organization results
		ech          bool
	}{
		"delegated alone":            {results{setDelegate: delegates}, true},
		"beside a strict allow":      {results{setDelegate: delegates, setAllow: {strict}}, false},
		"beside a relaxed allow":     {results{setDelegate: delegates, setAllow: {{rule: "org", ech: true, noSNI: true}}}, true},
		"beside any protocol":        {results{setDelegate: delegates, setAllow: {{rule: "org", protocol: policy.ProtocolAny}}}, true},
		"not delegated":              {results{setAllow: {strict}}, false},
		"report mode without allows": {results{setReport: {{rule: "r"}}}, false},
	} {
		d := combine(c.organization, results{setAllow: {relaxed}}, &evalInput{})
		if d.Verdict != policy.Allow || d.ECH != c.ech || d.NoSNI != c.ech {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
