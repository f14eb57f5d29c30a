package ruletext

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit/recorded"
	"github.com/sallyport/sallyport/policy"
)

const partnerFile = `package sallyport.egress

import rego.v1

# The partner that settles payments.
allow contains {"rule": "partner", "message": "settlement"} if {
	input.repository.full_name == "acme/payments"
	input.target.host == "api.partner.example"
}

deny contains {"rule": "no-paste-sites"} if input.target.host == "paste.example"
`

// FuzzRules: what is quoted of a policy stands there, at the lines that are named.
func FuzzRules(f *testing.F) {
	f.Add(partnerFile, "partner")
	f.Add("allow contains {\"rule\": `x`} if true\n# c\n\n\nb := 1", "x")
	f.Add("\"rule\":\"x\"", "x")
	f.Fuzz(func(t *testing.T, text, rule string) {
		lines := strings.Split(strings.ToValidUTF8(text, "\uFFFD"), "\n")
		for _, r := range statements(policy.File{Path: "egress/a.rego", Content: []byte(text)}, rule) {
			if r.First < 1 || r.Last > len(lines) || r.First > r.Last {
				t.Fatalf("lines %d to %d of %d", r.First, r.Last, len(lines))
			}
			if whole := strings.Join(lines[r.First-1:r.Last], "\n"); whole != r.Text && !strings.HasSuffix(r.Text, "…") {
				t.Errorf("%q is quoted as %q", whole, r.Text)
			}
		}
	})
}

// TestRuleText: a rule is quoted with the comments above it, from the files that
// count for the repository and no others.
func TestRuleText(t *testing.T) {
	snapshot, err := policy.NewSnapshot([]policy.File{{Path: "egress/partner.rego", Content: []byte(partnerFile)}}, "0123456789abcdef0123456789abcdef01234567")
	if err != nil {
		t.Fatal(err)
	}
	content, digest := snapshot.Content(), snapshot.Digest
	s := SnapshotOf(content, digest, "")
	got := rulesOf(s, &recorded.Event{Repository: "acme/payments", Rule: "partner"})
	if len(got) != 1 || got[0].File != "egress/partner.rego" || got[0].First != 5 || got[0].Last != 9 || !strings.HasPrefix(got[0].Text, "# The partner that settles") || !strings.HasSuffix(got[0].Text, "}") {
		t.Errorf("%+v", got)
	}
	if got := rulesOf(s, &recorded.Event{Rule: "part"}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if SnapshotOf(append([]byte("x"), content...), digest, "") != nil || SnapshotOf(nil, digest, "") != nil {
		t.Error("a policy that is not that of its digest is quoted")
	}
}

// TestRuleTextOfADelivery: rules about requests and about deliveries with one id are not
// confused.
func TestRuleTextOfADelivery(t *testing.T) {
	var files []policy.File
	for _, path := range []string{"egress/a.rego", "webhook/a.rego", "webhook/a_test.rego", "repositories/prj/app/a.rego", "repositories/prj/app/webhook/a.rego", "repositories/prj/other/webhook/a.rego"} {
		files = append(files, policy.File{Path: path, Content: []byte("deny contains {\"rule\": \"x\"}\n")})
	}
	s, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]string{"webhook": "repositories/prj/app/webhook/a.rego webhook/a.rego", "connect": "egress/a.rego"} {
		var found []string
		for _, r := range rulesOf(s, &recorded.Event{Action: action, Repository: "PRJ/app", Rule: "x"}) {
			found = append(found, r.File)
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("%s: %s", action, got)
		}
	}
}

// TestQuoteOfAnEarlierRevision: a rule of the repository is quoted from the revision
// that its rules were of, and one of the organization from the revision that decided.
func TestQuoteOfAnEarlierRevision(t *testing.T) {
	tree := func(org, own string) ([]byte, string) {
		s, err := policy.NewSnapshot([]policy.File{
			{Path: "egress/a.rego", Content: []byte("package sallyport.egress\n\n" + org)},
			{Path: "repositories/acme/payments/a.rego", Content: []byte("package x\n\n" + own)},
		}, "")
		if err != nil {
			t.Fatal(err)
		}
		return s.Content(), s.Digest
	}
	earlier, earlierDigest := tree("allow contains {\"rule\": \"org\"} if 1 == 1\n", "allow contains {\"rule\": \"own\"} if 2 == 2\n")
	now, digest := tree("allow contains {\"rule\": \"org\"} if 3 == 3\n", "allow contains {\"rule\": \"own\"} if 4 == 4\n")
	for rule, want := range map[string]string{"org": "3 == 3", "own": "2 == 2"} {
		rules, none := Extract(&recorded.Event{Repository: "acme/payments", Rule: rule, Revision: digest, OwnRevision: earlierDigest}, now, earlier)
		if len(rules) != 1 || !strings.Contains(rules[0].Text, want) {
			t.Errorf("%s: quoted %+v, %s", rule, rules, none)
		}
	}
	if rules, none := Extract(&recorded.Event{Repository: "acme/payments", Rule: "own", Revision: digest, OwnRevision: earlierDigest}, now, nil); len(rules) != 0 || none == "" {
		t.Errorf("without the earlier files: %+v", rules)
	}
}
