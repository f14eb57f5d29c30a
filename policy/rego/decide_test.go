package rego

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// errs is a rule of a repository whose evaluation ends in an error.
const errs = `allow contains {"rule": "own"} if to_number(input.target.host) == 1`

// slowly is a rule of a repository that does not end within the deadline.
const slowly = "allow contains {\"rule\": \"own\"} if {\n\tinput.target.host != \"warm-up.invalid\"\n\tsome a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 3000)\n\ta * b == -1\n}"

// orgDenies is an organization's policy that denies one host and delegates the others.
const orgDenies = `delegate contains {"rule": "own-rules"}

deny contains {"rule": "no-partner", "message": "Not any more."} if input.target.host == "api.partner.example"`

// TestOrganizationDenyIsFinal: whatever the repository's rules do, the organization's
// deny is the decision, with its rule and message.
func TestOrganizationDenyIsFinal(t *testing.T) {
	const want = `deny policy_denied rule=no-partner message="Not any more."`
	for name, rules := range map[string]string{
		"error":               errs,
		"timeout":             slowly,
		"a deny of its own":   `deny contains {"rule": "a-deny", "message": "Ours."}`,
		"an allow of its own": `allow contains {"rule": "an-allow"}`,
	} {
		t.Run(name, func(t *testing.T) {
			set, err := loadWithout(t, checkEnds, org(orgDenies)+repo(rules), Options{Names: true, Deadline: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			request := requestFor(t, "repository=acme/tools")
			d, err := set.Decide(t.Context(), request)
			if got := described(d, err); got != want {
				t.Errorf("got %s (%v)", got, err)
			}
			organization, final, err := set.DecideOrganization(t.Context(), request)
			if got := described(organization, err); got != want || !final {
				t.Errorf("the organization's half: %s, final %t", got, final)
			}
			if name == "timeout" {
				return // explaining it takes half a minute
			}
			x, err := set.Explain(t.Context(), d.Input)
			if got := described(x.Decision, err); got != want {
				t.Errorf("explained as %s (%v)", got, err)
			}
		})
	}
}

// TestOrganizationFirstIsNeeded: if both halves are evaluated first, an error of the
// repository hides the organization's deny.
func TestOrganizationFirstIsNeeded(t *testing.T) {
	set, err := loadWithout(t, organizationFirst, org(orgDenies)+repo(errs), Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := described(set.Decide(t.Context(), requestFor(t, "repository=acme/tools"))); got != "deny policy_error error" {
		t.Errorf("got %s", got)
	}
}

// TestOrganizationHalf: the organization's half is the whole decision if it denies, if it
// does not delegate, and for a repository without rules.
func TestOrganizationHalf(t *testing.T) {
	own := repo(`deny contains {"rule": "own"} if input.target.port == 1`)
	for name, c := range map[string]struct {
		rules, files string
		words        []string
		want         string
		final        bool
	}{
		"denied":                 {orgDenies, own, nil, "deny policy_denied", true},
		"nothing delegated":      {`allow contains {"rule": "x"} if input.target.port == 2`, own, nil, "deny no_rule_matched", true},
		"delegated":              {orgDenies, own, []string{"to=other.example:443"}, "", false},
		"allowed":                {`allow contains {"rule": "x"}`, own, nil, "", false},
		"allowed, without rules": {`allow contains {"rule": "x"}`, own, []string{"repository=acme/website"}, "allow policy_allowed", true},
		"report":                 {orgDenies + "\n\nreport contains {\"rule\": \"watch\"}", own, nil, "", false},
		"report, enforced":       {`deny contains {"rule": "x", "enforce_in_report_mode": true}` + "\n\nreport contains {\"rule\": \"watch\"}", own, nil, "deny policy_denied", true},
		"no repository at all":   {`allow contains {"rule": "x"}`, "", nil, "allow policy_allowed", true},
	} {
		t.Run(name, func(t *testing.T) {
			set := mustLoad(t, org(c.rules)+c.files)
			words := append([]string{"repository=acme/tools"}, c.words...)
			d, final, err := set.DecideOrganization(t.Context(), requestFor(t, words...))
			if err != nil || final != c.final || final && !strings.HasPrefix(described(d, nil), c.want) {
				t.Errorf("got %s, final %t, %v", described(d, nil), final, err)
			}
			whole, err := set.Decide(t.Context(), requestFor(t, words...))
			if err != nil || final && whole.Verdict != d.Verdict {
				t.Errorf("the whole decision is %s (%v)", described(whole, nil), err)
			}
		})
	}
	set := mustLoad(t, org(errs)+own)
	if d, final, err := set.DecideOrganization(t.Context(), requestFor(t)); err == nil || final || d.Reason != policy.PolicyError {
		t.Errorf("an error is %s, final %t", described(d, err), final)
	}
	if _, final, err := new(Engine).DecideOrganization(t.Context(), requestFor(t)); err == nil || final {
		t.Error("without a policy the half is final")
	}
}
