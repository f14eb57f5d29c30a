package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/source"
)

// TestFindings: a start checks what is new since the last good revision and nothing
// else. Forged findings for a repository that does not pass only delay the report: its
// first step is refused and recorded, and the log names the location of the fault.
func TestFindings(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	checked := func(want float64) {
		t.Helper()
		line := w.log.wait(t, "of what was checked", message("policy loaded", nil))
		if line["checked"] != want {
			t.Errorf("at the start %v policies were checked, want %v", line["checked"], want)
		}
	}
	tools := func() {
		t.Helper()
		c := w.caller(w.Tools, nil, "main")
		if v := w.curl(t, c.proxyURL(w.proxy), w.https("mirror.tools.example", "/")); v.status != "200" {
			t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
		}
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "rule": "own-mirror"})
	}
	checked(2) // the organization's, and acme/tools'
	w.stop()
	w.restart()
	checked(1)
	tools() // checked now
	w.stop()

	const bad = "repositories/acme/payments/bad.rego"
	const text = "package sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"bad\"} if input.target.hots == \"x.example\"\n"
	if err := os.MkdirAll(filepath.Dir(filepath.Join(w.policy, bad)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.policy, bad), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	forgeFindings(t, filepath.Join(w.data, "policy"), policy.File{Path: bad, Content: []byte(text)})
	w.restart()
	checked(1)
	tools()
	for range 2 {
		c := w.anybody()
		w.connect(t, c, "raw.partner.example:443").refused(t, 403, "policy_error")
		w.both(t, w.decision(t, c), fields{"verdict": "deny", "reason": "policy_error", "rule": nil})
	}
	output := w.log.wait(t, "of the fault", func(f fields) bool { return strings.Contains(show(f["error"]), bad+":3:") })
	if !strings.Contains(show(output["error"]), "it fails") {
		t.Errorf("the log says %v", output)
	}
	if status, answer := w.readyz(); status != 200 || !strings.Contains(show(answer), "refused_repositories:acme/payments") {
		t.Errorf("/readyz answered %d: %v", status, answer)
	}
	w.stop()

	// One byte less, and everything is checked: the start finds the fault, and the
	// repository is denied for it: no rules of its own have ever passed.
	name := filepath.Join(w.data, "policy", "last-good-findings")
	findings, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, findings[:len(findings)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	w.restart()
	checked(3)
	tools()
	a := w.connect(t, w.anybody(), "raw.partner.example:443")
	a.refused(t, 403, "policy_error")
	if !strings.Contains(a.body, "the policy of this repository was rejected: "+bad+":3:") {
		t.Errorf("the refusal says %q", a.body)
	}
}

// forgeFindings adds a file to the last good policy in a directory, and has its
// findings state that all of it has passed.
func forgeFindings(t *testing.T, directory string, added policy.File) {
	t.Helper()
	store := source.NewKept(directory)
	kept, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	if kept.Snapshot, err = policy.NewSnapshot(append(kept.Snapshot.Files, added), kept.Snapshot.Commit); err != nil {
		t.Fatal(err)
	}
	line, body, _ := bytes.Cut(kept.Findings, []byte("\n"))
	head := map[string]any{}
	if err := json.Unmarshal(line, &head); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	head["digest"], head["sum"] = kept.Snapshot.Digest, hex.EncodeToString(sum[:])
	if line, err = json.Marshal(head); err != nil {
		t.Fatal(err)
	}
	kept.Findings, kept.Confirmed = bytes.Join([][]byte{line, body}, []byte("\n")), time.Now()
	if err := store.Save(*kept); err != nil {
		t.Fatal(err)
	}
}
