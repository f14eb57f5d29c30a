package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestPolicyRollout: every repository that was seen, has rules, or is listed, with
// what it did, and which of its tunnels enforce mode would close.
func TestPolicyRollout(t *testing.T) {
	t.Parallel()
	old := tree(t, oldTree)
	s := newSeeded(t, old)
	s.fill()
	// A decision with a principal, for which policy was not evaluated; and one without
	// a principal.
	limited := s.event("acme/tools", "", "main", "registry.example:443")
	limited.Verdict, limited.Reason, limited.Status, limited.Mode, limited.Input, limited.Rule, limited.Rules = "deny", "step_limit", 503, "", nil, "", nil
	nobody := &audit.Event{Time: limited.Time, Kind: audit.KindDecision, DecisionID: "01a1fdf4-c192-7cf7-900b-00000000fffe", Verdict: "deny", Reason: "credential_malformed", Status: 407}
	for _, e := range []*audit.Event{limited, nobody} {
		if err := s.log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	// Tunnels that only report mode let continue: of one target for two reasons, of another
	// for a reason that no key accepts, and one of the self-test.
	for _, c := range [][2]string{{"fonts.example:443", "hello_encrypted"}, {"fonts.example:443", "hello_missing"}, {"front.example:443", "hello_mismatch"}, {"probe.example:443", "hello_invalid"}} {
		e := s.event("acme/website", "", "main", c[0])
		e.Kind, e.Verdict, e.Reason, e.Input, e.CloseReason = audit.KindWouldClose, "", "", nil, c[1]
		if c[1] == "hello_invalid" {
			e.CredentialKind = "self_test"
		}
		if err := s.log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	// Known by name from before that time.
	s.exec(t, `INSERT INTO identity.repositories VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '1 year', NULL, now() - interval '1 year', 'acme', 'acme/asleep', 'PAY')`)
	list := filepath.Join(t.TempDir(), "repositories.txt")
	if err := os.WriteFile(list, []byte("# all of acme\nacme/payments\n\nacme/silent\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	output := s.run(0, "rollout", old, "--repositories", list)
	for _, row := range []string{
		`(?m)^acme/website +20\S+Z +report +2 +3 +0 +1$`,
		`(?m)^acme/payments +20\S+Z +enforce +0 +0 +3 +4  own$`,
		`(?m)^acme/tools +20\S+Z +- +0 +0 +0 +0$`,
		`(?m)^acme/silent +never +- +0 +0 +0 +0$`,
		`(?m)^acme/asleep +never +- +0 +0 +0 +0$`,
		`(?m)^acme/website +- +fonts.example:443 +2 +20\S+Z +hello_encrypted, hello_missing +"ech": true, "no_sni": true$`,
		`(?m)^acme/website +- +front.example:443 +1 +20\S+Z +hello_mismatch +no key accepts hello_mismatch: correct the client$`,
		`(?m)^5 repositories: 1 enforced, 1 with something that would be denied or closed, 2 never seen$`,
	} {
		if !regexp.MustCompile(row).MatchString(output) {
			t.Errorf("it does not say %s:\n%s", row, output)
		}
	}
	got := fromJSON[struct {
		Repositories []struct {
			Repository string
			Refused    int
			WouldDeny  int `json:"would_deny"`
			WouldClose int `json:"would_close"`
			Continued  []struct {
				Target      string
				Tunnels     int
				Relaxations []string
			} `json:"would_close_targets"`
		}
	}](t, runCommand(t, 0, "policy", "rollout", "--export", s.exported(), "--format", "json"))
	if r := got.Repositories[0]; r.WouldClose != 3 || len(r.Continued) != 2 || r.Continued[0].Target != "fonts.example:443" || r.Continued[0].Tunnels != 2 || len(r.Continued[0].Relaxations) != 2 || len(r.Continued[1].Relaxations) != 0 {
		t.Errorf("of the export: %+v", r)
	}
	// audit stats counts the same.
	checkContains(t, runCommand(t, 0, "audit", "stats", "--database-url-file", s.urlFile),
		"report mode let 3 tunnels continue that enforce mode closes for their first bytes", "tunnels that enforce mode closes, 3 of 3 targets")
	if len(got.Repositories) != 3 || got.Repositories[0].WouldDeny != 2 || got.Repositories[2].Repository != "acme/website" && got.Repositories[0].Repository != "acme/website" {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(list, []byte("acme/payments\nPayments\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	checkContains(t, s.run(2, "rollout", "--repositories", list), `repositories.txt:2: "Payments" is not the full name`)
	checkContains(t, s.run(2, "rollout", old, old), "give one directory, or none")
}

// TestPolicyRolloutReadsBitbucket: with the REST API in the configuration, what never
// went through the proxy shows too; and a list that breaks off is not a list.
func TestPolicyRolloutReadsBitbucket(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	for i := range 150 {
		w.Workspace.AddRepository(fmt.Sprintf("quiet-%03d", i), "PAY")
	}
	checkContains(t, w.operatorCommand(t, 0, "policy", "rollout", w.policy, "--without-bitbucket"), "1 repository: 0 enforced, 0 with something that would be denied or closed, 1 never seen")
	output := w.operatorCommand(t, 0, "policy", "rollout", w.policy)
	checkContains(t, output, "acme/payments   never", "acme/quiet-149  never", "153 repositories: 0 enforced, 0 with something that would be denied or closed, 153 never seen")

	second := func(f bitbuckettest.Fault) bitbuckettest.Fault {
		f.Match = func(r *http.Request) bool { return r.URL.Query().Has("page") }
		return f
	}
	for _, f := range []bitbuckettest.Fault{bitbuckettest.RateLimited(0), bitbuckettest.Failing(503), bitbuckettest.Truncated(), bitbuckettest.Replaced(`{"values":[],"size":153}`)} {
		fault := w.Bitbucket.Inject(bitbuckettest.RepositoryList, second(f))
		output := w.operatorCommand(t, 1, "policy", "rollout", w.policy)
		fault.Clear()
		checkContains(t, output, "list the repositories of workspace acme: page 2, after 100 repositories", "--without-bitbucket")
		if strings.Contains(output, "never seen") {
			t.Errorf("it tells a short list:\n%s", output)
		}
	}
}
