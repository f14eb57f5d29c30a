package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inPolicy adds keys to the configuration's section policy.
func (w *fixture) inPolicy(t *testing.T, keys string) {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("  directory: %q\n", w.policy)
	changed := strings.Replace(string(text), line, line+keys, 1)
	if err := os.WriteFile(w.config, []byte(changed), 0o600); err != nil || changed == string(text) {
		t.Fatal(err, changed)
	}
}

// TestCandidate: a policy beside the one that decides changes nothing, and where
// it would have decided otherwise is counted and recorded, once, with what it
// takes to evaluate it again.
func TestCandidate(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	beside := filepath.Join(t.TempDir(), "candidate")
	if err := os.CopyFS(beside, os.DirFS(w.policy)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(beside, "egress", "next.rego"), []byte("package sallyport.egress\n\nallow contains {\"rule\": \"next\"} if input.target.host == \"late.partner.example\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A folder that fails does not keep the rest of the candidate from being evaluated.
	if err := os.WriteFile(filepath.Join(beside, "repositories", "acme", "tools", "bad.rego"), []byte(failingFolders[0].text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.inPolicy(t, fmt.Sprintf("  candidate: {directory: %q}\n", beside))
	w.start()
	line := w.log.wait(t, "of the candidate", message("candidate policy active", nil))
	if n := w.counter(t, "sallyport_candidate_repository_policies_rejected"); n != 1 {
		t.Errorf("%v repositories are rejected in the candidate", n)
	}
	for range 3 {
		c := w.production()
		w.connect(t, c, "late.partner.example:443").refused(t, 403, "no_rule_matched")
		if row := w.decision(t, c); row["revision"] == line["revision"] {
			t.Fatal("the candidate decides")
		}
		w.connect(t, w.production(), "paste.unlisted.example:443").refused(t, 403, "policy_denied")
	}
	const differed = `SELECT repository, host, verdict, rule, revision, convert_from(record, 'UTF8')::json ->> 'input' AS input,
		convert_from(record, 'UTF8')::json -> 'attributes' ->> 'decided_verdict' AS decided FROM audit.events WHERE kind = 'candidate_mismatch'`
	eventually(t, "the difference is on record", func() bool { return len(w.query(t, differed)) > 0 })
	rows := w.query(t, differed)
	if len(rows) != 1 {
		t.Fatalf("on record: %v", rows)
	}
	check(t, "difference", rows[0], fields{"repository": "acme/payments", "host": "late.partner.example", "verdict": "allow", "rule": "next", "revision": line["revision"], "decided": "deny"})
	if !strings.Contains(show(rows[0]["input"]), "late.partner.example") {
		t.Errorf("the input is %v", rows[0]["input"])
	}
	revision, _ := line["revision"].(string)
	if kept := w.query(t, `SELECT 1 AS one FROM audit.policies WHERE digest = $1`, revision); len(kept) != 1 {
		t.Error("the candidate's content is not kept")
	}
	if n := w.query(t, `SELECT 1 AS one FROM audit.decisions WHERE verdict = 'allow'`); len(n) != 0 {
		t.Error("what the candidate would allow counts as a decision")
	}
}

// TestExceptionEnds is announced before it does, stops working by itself, and its
// end is the decision's.
func TestExceptionEnds(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	until := time.Now().Add(3 * time.Second).UTC().Truncate(time.Second)
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(w.policy, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("egress/exceptions.rego", `package sallyport.egress

import data.sallyport.lib

allow contains {"rule": "exception", "expires": exception.until} if {
	some exception in lib.exceptions_for(data.exceptions.list, input.principal.repository.full_name, input.target)
}
`)
	entry := func(until time.Time) string {
		return fmt.Sprintf("  - {repository: acme/payments, hosts: [late.partner.example], owner: kim@acme.example, ticket: PAY-7, until: %q}\n", until.Format(time.RFC3339))
	}
	write("data/exceptions/list.yaml", "list:\n"+entry(until)+entry(until.Add(1000*time.Hour)))
	w.start()
	line := w.log.wait(t, "of the exception's end", message("policy exception expires soon", nil))
	check(t, "log line", line, fields{"owner": "kim@acme.example", "ticket": "PAY-7", "repository": "acme/payments", "path": "data.exceptions.list[0]", "until": until.Format(time.RFC3339)})
	if rows := w.query(t, `SELECT repository, message FROM audit.events WHERE kind = 'exception_expiring'`); len(rows) != 1 || !strings.Contains(show(rows[0]["message"]), until.Format(time.RFC3339)) {
		t.Errorf("on record: %v", rows)
	}

	// Without the longer one, only the one that is about to end allows.
	w.offer(t, "data/exceptions/list.yaml", "list:\n"+entry(until))
	eventually(t, "the exception stops by itself", func() bool {
		c := w.production()
		a := w.connect(t, c, "late.partner.example:443")
		w.decision(t, c)
		return a.StatusCode == 403
	})
	if time.Now().Before(until) {
		t.Error("it stopped before its end")
	}
}
