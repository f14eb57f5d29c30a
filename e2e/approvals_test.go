package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// TestApprovals: a policy decides at once while Bitbucket does not answer; who approved
// the pull request follows, once for each commit, also after a restart. A push beside an
// approved pull request, and a self-approval, are called that.
func TestApprovals(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.Workspace.AddAccessToken(testenv.AccessToken, bitbuckettest.ScopeRepository, bitbuckettest.ScopePipeline, bitbuckettest.ScopePullRequest)
	repository := w.Workspace.AddRepository("egress-policy", "SEC")
	kim, ada := w.Bitbucket.AddAccount("Kim"), w.Bitbucket.AddAccount("=cmd|'/C calc'!A0<script>")
	var away atomic.Bool
	_, commit, first := w.policyFromGit(t, &away, "  approvals: {repository: acme/egress-policy}\n")
	hang := w.Bitbucket.Inject(bitbuckettest.PullRequest, bitbuckettest.Failing(http.StatusServiceUnavailable))
	merged := func(p bitbuckettest.Pull, by bitbuckettest.Account, as string, approvers ...bitbuckettest.Account) {
		p.Author, p.Destination = &kim, "main"
		pull := repository.AddPull(p)
		for _, a := range approvers {
			pull.Approve(a)
		}
		pull.Merge(by, as)
	}
	merged(bitbuckettest.Pull{Title: "The first <script>", Source: first, Commits: []bitbuckettest.PullCommit{{Hash: first, Author: &kim}}}, ada, first, ada)
	w.start()

	// It decides already, and Bitbucket has not answered.
	if row := func() fields {
		c := w.production()
		w.connect(t, c, "late.partner.example:443").refused(t, 403, "no_rule_matched")
		return w.decision(t, c)
	}(); row["commit"] != first {
		t.Errorf("%v", row)
	}
	outcome := func(commit string) string {
		rows := w.query(t, "SELECT outcome, detail, approvers, pull_request_author, title FROM audit.policy_approvals WHERE commit = $1", commit)
		if len(rows) != 1 {
			return fmt.Sprint(len(rows), " rows")
		}
		return fmt.Sprint(rows[0]["outcome"])
	}
	if err := hang.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := outcome(first); got != "not_recorded" {
		t.Errorf("while Bitbucket does not answer the outcome is %s", got)
	}
	eventually(t, "what the alert looks for", func() bool {
		_, metrics := w.get("/metrics")
		return strings.Contains(metrics, "sallyport_policy_approvals_last_successful 0") && strings.Contains(metrics, "sallyport_policy_approvals_pending 1")
	})
	hang.Clear()
	w.stop()
	w.restart()
	eventually(t, "the first commit's approval is on record", func() bool { return outcome(first) == "approved" })
	rows := w.query(t, "SELECT approvers::text, pull_request_author, title, author FROM audit.policy_approvals WHERE commit = $1", first)
	if a := show(rows[0]["approvers"]); !strings.Contains(a, ada.UUID) || rows[0]["pull_request_author"] != "Kim" || rows[0]["title"] != "The first <script>" || rows[0]["author"] != "Kim <kim@acme.example>" {
		t.Errorf("%v", rows[0])
	}

	second := commit()
	merged(bitbuckettest.Pull{Title: "by myself", Source: second}, kim, second, kim)
	if out, err := w.reloadPolicy(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A commit that changes no file activates nothing: its approval is fetched with the next one.
	third := w.changedPolicy(t, commit, "third")
	merged(bitbuckettest.Pull{Title: "reviewed", Source: third}, ada, third, ada)
	if out, err := w.reloadPolicy(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "the third commit's approval is on record", func() bool { return outcome(third) == "self_approved" })
	if rows := w.query(t, "SELECT detail, commits FROM audit.policy_approvals WHERE commit = $1", third); !strings.Contains(fmt.Sprint(rows[0]["detail"]), second[:12]) || fmt.Sprint(rows[0]["commits"]) != "2" {
		t.Errorf("what came with it is not named: %v", rows)
	}
	if rows := w.query(t, "SELECT FROM audit.events WHERE kind = 'policy_approval'"); len(rows) != 2 {
		t.Errorf("%d events for two commits", len(rows))
	}
	_, metrics := w.get("/metrics")
	for _, want := range []string{`sallyport_policy_approvals_total{outcome="self_approved"} 1`, "sallyport_policy_approvals_pending 0", "sallyport_policy_approvals_last_successful 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

// approving is a server whose policy is in a repository of the emulated Bitbucket, with
// a pull request that merged the first commit and that its author alone approved.
func approving(t *testing.T, scopes ...string) *fixture {
	t.Helper()
	w := newFixture(t, options{})
	w.Workspace.AddAccessToken(testenv.AccessToken, scopes...)
	kim := w.Bitbucket.AddAccount("Kim")
	_, _, first := w.policyFromGit(t, new(atomic.Bool), "  approvals: {repository: acme/egress-policy}\n")
	pull := w.Workspace.AddRepository("egress-policy", "SEC").AddPull(bitbuckettest.Pull{Author: &kim, Destination: "main", Source: first})
	pull.Approve(kim)
	pull.Merge(kim, first)
	return w
}

func statePolicyUnapproved(t *testing.T) []alertScrape {
	w := approving(t, bitbuckettest.ScopeRepository, bitbuckettest.ScopePipeline, bitbuckettest.ScopePullRequest)
	unanswered := w.Bitbucket.Inject(bitbuckettest.PullRequest, bitbuckettest.Hanging())
	w.start()
	before := alertScrape{Body: w.scrape()}
	unanswered.Clear()
	after := scraped(t, w, `sallyport_policy_approvals_total{outcome="self_approved"}`)[0]
	after.after = time.Minute
	return []alertScrape{before, after}
}

func stateApprovalsUnread(t *testing.T) []alertScrape {
	w := approving(t, bitbuckettest.ScopeRepository, bitbuckettest.ScopePipeline)
	w.start()
	return scraped(t, w, "sallyport_policy_approvals_pending")
}

// changedPolicy commits a rule of this name.
func (w *fixture) changedPolicy(t *testing.T, commit func() string, rule string) string {
	t.Helper()
	text := "package sallyport.egress\n\nallow contains {\"rule\": \"" + rule + "\"} if input.target.host == \"" + rule + ".example\"\n"
	if err := os.WriteFile(filepath.Join(w.policy, "egress", rule+".rego"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return commit()
}
