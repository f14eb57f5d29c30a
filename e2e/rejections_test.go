package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Failing states of the folder of acme/tools, and what is reported of each.
var failingFolders = []struct{ name, text, says string }{
	{"syntax error", "package sallyport.repository[\"acme/tools\"]\n\nallow contains\n", "repositories/acme/tools/egress.rego:"},
	{"rules without end", "package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\"} if {\n\tsome a in numbers.range(1, 10000)\n\tsome b in numbers.range(1, 10000)\n\tsome c in numbers.range(1, 1000)\n\ta + b + c == input.target.port + 1000000\n}\n", "exceeds its deadline of"},
	{"a bomb", bombFolder(), "repositories/acme/tools/egress.rego"},
	{"no answer to what was asked", "package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\", \"message\": input.target.port}\n", "message"},
}

// bombFolder is rules whose evaluation takes more stack than there is: two nested
// arrays are compared, each of which holds itself twenty times over.
func bombFolder() string {
	var b strings.Builder
	b.WriteString("package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\"} if {\n\tx0 := [input.target.host]\n\ty0 := [input.target.host]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "\tx%[2]d := array.concat([x%[1]d], [x%[1]d])\n\ty%[2]d := array.concat([y%[1]d], [y%[1]d])\n", i, i+1)
	}
	b.WriteString("\tx20 == y20\n}\n")
	return b.String()
}

// folder writes the rules of a repository, without having the server poll.
func (w *fixture) folder(t testing.TB, repository, text string) {
	t.Helper()
	directory := filepath.Join(w.policy, "repositories", "acme", repository)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "egress.rego")
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// settled waits until no repository's policy waits for a check.
func (w *fixture) settled(t testing.TB) {
	t.Helper()
	eventually(t, "the checks of repositories' policies", func() bool {
		return w.counter(t, "sallyport_repository_policies_pending") == 0
	})
}

// TestRejectedRepository: one repository's failing folder keeps neither the
// organization's deny nor another repository's rules from taking effect. The
// repository keeps its earlier rules, over a restart too, or is denied by
// configuration; all of it is recorded, and recovers with the folder.
func TestRejectedRepository(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	good, err := os.ReadFile(filepath.Join(w.policy, "repositories", "acme", "tools", "egress.rego"))
	if err != nil {
		t.Fatal(err)
	}
	w.start()
	target := echo(t)
	tools := func() caller { return w.caller(w.Tools, nil, "main") }
	first := tools()
	w.connect(t, first, "mirror.tools.example:443") // whatever becomes of it: it was allowed
	before := w.decision(t, first)["revision"]

	denying := filepath.Join(w.policy, "egress", "later.rego")
	for i, c := range failingFolders {
		open, own := w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port), w.tunnel(t, tools(), "raw.partner.example:"+target.port)
		open.echoes(t, "open")
		own.echoes(t, "open")
		// In one state: the failing folder, another repository's rules and the deny.
		w.folder(t, "tools", c.text)
		w.folder(t, "payments", "package sallyport.repository[\"acme/payments\"]\n\ndeny contains {\"rule\": \"no-files\"} if input.target.host == \"files.partner.example\"\n")
		if err := os.WriteFile(denying, []byte("package sallyport.egress\n\ndeny contains {\"rule\": \"no-raw\"} if input.target.host == \"raw.partner.example\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.operatorCommand(t, 0, "policy", "reload")
		changed := time.Now()
		open.cut(t)
		own.cut(t)
		if took := time.Since(changed); took > 2*time.Second {
			t.Errorf("%s: the denied target was closed after %v", c.name, took)
		}
		w.settled(t)
		w.connect(t, w.anybody(), "files.partner.example:443").refused(t, 403, "policy_denied")

		now := w.query(t, `SELECT revision FROM audit.policy_changes WHERE kind = 'policy_loaded' ORDER BY time DESC LIMIT 1`)[0]["revision"]
		step := tools()
		w.connect(t, step, "mirror.tools.example:443")
		row := w.decision(t, step)
		w.both(t, row, fields{"verdict": "allow", "rule": "own-mirror", "revision": now})
		if row["repository_revision"] != before {
			t.Errorf("%s: the rules are of %v, and not of %v", c.name, row["repository_revision"], before)
		}
		var event []fields
		eventually(t, "the event", func() bool {
			event = w.query(t, `SELECT repository, repository_revision, message, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes FROM audit.events
			WHERE kind = 'repository_policy_rejected' AND revision = $1`, now)
			return len(event) > 0
		})
		if len(event) != 1 || event[0]["repository"] != "acme/tools" || event[0]["repository_revision"] != before || !strings.Contains(show(event[0]["message"]), c.says) {
			t.Errorf("%s: recorded %v", c.name, event)
		}
		status, ready := w.readyz()
		if warned := show(ready["warnings"]); status != 200 || !strings.Contains(warned, "acme/tools") || !strings.Contains(warned, c.says) {
			t.Errorf("%s: /readyz answered %d: %s", c.name, status, warned)
		}
		if kept := w.counter(t, `sallyport_repository_policies_rejected{in_force="kept"}`); kept != 1 {
			t.Errorf("%s: %v repositories keep rules", c.name, kept)
		}
		// The author reads it in a refusal.
		author := tools()
		a := w.connect(t, author, "nowhere.example:443")
		a.refused(t, 403, "no_rule_matched")
		if !strings.Contains(a.body, "the latest rules of this repository were rejected") || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: the refusal says %q", c.name, a.body)
		}
		w.operatorCommand(t, 0, "policy", "explain", row["decision_id"].(string))
		if i == 0 {
			w.stop()
			w.restart()
			again := tools()
			w.connect(t, again, "mirror.tools.example:443")
			w.both(t, w.decision(t, again), fields{"verdict": "allow", "rule": "own-mirror", "revision": now, "repository_revision": before})
		}
		// Repaired, its present rules are in force.
		w.folder(t, "tools", string(good)+"\n# "+c.name+"\n")
		if err := os.Remove(denying); err != nil {
			t.Fatal(err)
		}
		w.operatorCommand(t, 0, "policy", "reload")
		w.settled(t)
		repaired := tools()
		w.connect(t, repaired, "mirror.tools.example:443")
		row = w.decision(t, repaired)
		w.both(t, row, fields{"verdict": "allow", "rule": "own-mirror", "repository_revision": nil})
		before = row["revision"]
		if _, ready := w.readyz(); strings.Contains(show(ready["warnings"]), "acme/tools") {
			t.Errorf("%s: repaired, /readyz has %v", c.name, ready["warnings"])
		}
	}
	w.operatorCommand(t, 0, "policy", "replay", "--as-decided", "--since", "1h")
	w.stop()
	w.deniedByConfiguration(t, tools)
}

// deniedByConfiguration wants a failing repository to be denied where the
// configuration requires it.
func (w *fixture) deniedByConfiguration(t *testing.T, tools func() caller) {
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "\npolicy:\n", "\npolicy:\n  repository_failure: deny\n", 1))
	if err := os.WriteFile(w.config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.folder(t, "tools", failingFolders[0].text)
	w.operatorCommand(t, 0, "policy", "reload")
	step := tools()
	a := w.connect(t, step, "mirror.tools.example:443")
	id := a.refused(t, 403, "policy_error")
	if !strings.Contains(a.body, "the policy of this repository was rejected: "+failingFolders[0].says) {
		t.Errorf("the refusal says %q", a.body)
	}
	w.both(t, w.decision(t, step), fields{"reason": "policy_error", "repository_revision": nil})
	w.operatorCommand(t, 0, "policy", "explain", id)
	if denied := w.counter(t, `sallyport_repository_policies_rejected{in_force="denied"}`); denied != 1 {
		t.Errorf("%v repositories are denied", denied)
	}
}
