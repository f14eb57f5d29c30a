package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// offer writes a file of the organization's policy and has the server poll.
func (w *fixture) offer(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(w.policy, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	// In one step: the server polls by itself too.
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
}

// TestLastGoodFromDisk: a server whose policy is invalid or missing starts with the
// last good revision, reports that, and activates the source's policy when it is
// valid again.
func TestLastGoodFromDisk(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{extra: ""})
	w.start()
	first := w.production()
	w.connect(t, first, "paste.unlisted.example:443").refused(t, 403, "policy_denied")
	revision := w.decision(t, first)["revision"]
	w.stop()

	bad := filepath.Join(w.policy, "egress", "bad.rego")
	if err := os.WriteFile(bad, []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if nobody_knows\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.restart()
	line := w.log.wait(t, "of the fallback", message("policy rejected at startup; loading last good revision from disk", nil))
	check(t, "log line", line, fields{"revision": revision})
	second := w.production()
	w.connect(t, second, "paste.unlisted.example:443").refused(t, 403, "policy_denied")
	w.both(t, w.decision(t, second), fields{"revision": revision, "rule": "no-pastebins"})
	status, ready := w.readyz()
	if output := show(ready["detail"]); status != 200 || !strings.Contains(output, "egress/bad.rego:3") || !strings.Contains(output, "does_not_load") {
		t.Errorf("/readyz answered %d: %s", status, output)
	}
	changes := w.query(t, `SELECT kind, revision, message, attributes FROM audit.policy_changes ORDER BY time`)
	if len(changes) != 3 {
		t.Fatalf("audit.policy_changes has %v", changes)
	}
	check(t, "second start", changes[1], fields{"kind": "policy_loaded", "revision": revision})
	check(t, "refusal", changes[2], fields{"kind": "policy_rejected"})
	if !strings.Contains(show(changes[1]["attributes"]), "disk") || !strings.Contains(show(changes[2]["message"]), "egress/bad.rego:3") {
		t.Errorf("the events do not say that it is from disk, or why: %v", changes)
	}

	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	eventually(t, "/readyz has nothing more to say", func() bool {
		_, ready := w.readyz()
		return !strings.Contains(show(ready["detail"]), "last_reload_error")
	})
	w.stop()

	// Without what was kept, the same state ends the start.
	if err := os.WriteFile(bad, []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if nobody_knows\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.data, "policy")); err != nil {
		t.Fatal(err)
	}
	w.server = launch(w.t, w.program, w.config, w.admin, w.env...)
	w.await(1)
}

// TestInvalidRevisionIsNotActivated throws bad revisions of many kinds at a server: none
// ever decides, and each refusal names its kind, the file and the line.
func TestInvalidRevisionIsNotActivated(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	known := w.production()
	w.connect(t, known, "paste.unlisted.example:443").refused(t, 403, "policy_denied")
	good := w.decision(t, known)["revision"]

	const file = "egress/zz_bad.rego"
	thrown := 0
	for round := range 6 {
		for _, c := range badRevisions {
			if c.slow && round > 0 {
				continue
			}
			thrown++
			name, text := c.file, c.text
			if name == "" {
				name = file
			}
			if !c.whole {
				text = "package sallyport.egress\n\n" + text
			}
			text += fmt.Sprintf("# %d\n", round)
			before := w.log.written()
			w.offer(t, name, text)
			seen := w.log.waitFrom(t, before, c.name, func(f fields) bool {
				return f["msg"] == "policy rejected; keeping last good revision" && strings.Contains(show(f["error"]), c.says)
			})
			if output := show(seen["error"]); !at(output, name, c.line, c.slow) || seen["kind"] != c.kind {
				t.Errorf("%s: %v: %s\nwant %s at %s:%d", c.name, seen["kind"], output, c.kind, name, c.line)
			}
			check(t, c.name, seen, fields{"revision": good})
			if err := os.Remove(filepath.Join(w.policy, name)); err != nil {
				t.Fatal(err)
			}
		}
		again := w.production()
		w.connect(t, again, "paste.unlisted.example:443").refused(t, 403, "policy_denied")
		w.both(t, w.decision(t, again), fields{"revision": good})
	}
	if thrown < 100 {
		t.Errorf("%d bad revisions only", thrown)
	}
	if rows := w.query(t, `SELECT DISTINCT revision FROM audit.events WHERE kind IN ('decision', 'policy_loaded')`); len(rows) != 1 {
		t.Errorf("revisions that decided: %v", rows)
	}
	// A refusal is recorded a moment after the log reports it.
	eventually(t, "every refusal is on record", func() bool {
		refused := w.query(t, `SELECT count(*) AS n FROM audit.policy_changes WHERE kind = 'policy_rejected'`)
		n, _ := refused[0]["n"].(float64)
		return int(n) >= thrown
	})
}

// at reports whether an error names a line; of a loop, any line of its body.
func at(output, file string, line int, loop bool) bool {
	for n := line; n > 2 || n == line; n-- {
		if strings.Contains(output, fmt.Sprintf("%s:%d:", file, n)) {
			return true
		}
		if !loop {
			break
		}
	}
	return false
}

// badRevisions are one of each kind of fault that a policy can have.
var badRevisions = []struct {
	name, file, text string
	whole, slow      bool // text is the whole file; it has to be cut
	line             int
	kind, says       string
}{
	{name: "does not parse", text: "allow contains {\"rule\": \"broken\" if true\n", line: 3, kind: "does_not_load", says: "non-terminated"},
	{name: "unknown name", text: "allow contains {\"rule\": \"x\"} if nobody_knows\n", line: 3, kind: "does_not_load", says: "nobody_knows"},
	{name: "unknown input", text: "allow contains {\"rule\": \"x\"} if {\n\tinput.target.hots == \"a\"\n}\n", line: 4, kind: "does_not_load", says: "input.target.host?"},
	{name: "removed builtin", text: "allow contains {\"rule\": \"x\"} if http.send({\"method\": \"GET\", \"url\": \"http://127.0.0.1/\"}).status_code == 200\n", line: 3, kind: "does_not_load", says: "http.send"},
	{name: "recursion", text: "a if b\n\nb if a\n\nallow contains {\"rule\": \"x\"} if a\n", line: 3, kind: "does_not_load", says: "is recursive"},
	{name: "wrong package", text: "package sallyport.repository[\"acme/payments\"]\n", whole: true, line: 1, kind: "does_not_load", says: "does not belong into this folder"},
	{name: "wrong folder", file: "egress/deep/bad.rego", text: "package sallyport.egress\n", whole: true, line: 1, kind: "does_not_load", says: "policies are not read from this folder"},
	{name: "ten megabytes", text: "x := 1 # " + strings.Repeat("x", 10<<20) + "\n", line: 1, kind: "does_not_load", says: "over 1 MiB"},
	{name: "no rule id", text: "allow contains {\"message\": \"x\"} if true\n", line: 3, kind: "does_not_load", says: "has no rule id"},
	{name: "doubled rule id", text: "allow contains {\"rule\": \"twice\"} if input.target.port == 1\n\nfill := 1\n\nallow contains {\"rule\": \"twice\"} if input.target.port == fill\n", line: 7, kind: "does_not_load", says: "is in use at"},
	{name: "wrong shape, written", text: "allow contains {\"rule\": \"x\", \"expires\": \"soon\"}\n", line: 3, kind: "does_not_load", says: "is not an RFC 3339 time"},
	{name: "wrong set", text: "allow[x] := 1 if x := 1\n", line: 3, kind: "does_not_load", says: "allow is a set of entries"},
	{name: "reads a repository's policy", text: "allow contains {\"rule\": \"x\"} if {\n\tcount(data.sallyport.repository[\"acme/tools\"].allow) > 0\n}\n", line: 4, kind: "does_not_load", says: "policy cannot read"},
	{name: "deny that reads what may be absent", text: "deny contains {\"rule\": \"x\", \"message\": input.principal.deployment.name}\n", line: 3, kind: "does_not_load", says: "is absent for"},
	{name: "data in the policies' namespace", file: "data/sallyport/x.yaml", text: "a: 1\n", whole: true, line: 1, kind: "does_not_load", says: "is the namespace of policies"},
	{name: "data that does not parse", file: "data/zz/x.yaml", text: "a: 1\na: 2\n", whole: true, line: 2, kind: "does_not_load", says: "already defined"},
	{name: "never ends", slow: true, text: "allow contains {\"rule\": \"x\"} if {\n\tsome a in numbers.range(1, 30000)\n\tsome b in numbers.range(1, 30000)\n\ta * b == -1\n}\n", line: 6, kind: "does_not_load", says: "the evaluation exceeds its deadline of 1s"},
	{name: "its test fails", file: "egress/zz_bad_test.rego", text: "package sallyport.egress_test\n\ntest_nothing if 1 == 2\n", whole: true, line: 3, kind: "tests_failed", says: "test_nothing"},
	{name: "wrong shape, computed", text: "deny contains {\"rule\": \"zz\", \"message\": input.target.port} if input.target.host == \"paste.unlisted.example\"\n", line: 3, kind: "probe_failed", says: "message is not a string"},
	{name: "ends for some only", slow: true, text: "deny contains {\"rule\": \"zz\"} if {\n\tinput.target.host == \"paste.unlisted.example\"\n\tsome a in numbers.range(1, 30000)\n\tsome b in numbers.range(1, 30000)\n\ta * b == -1\n}\n", line: 7, kind: "probe_failed", says: "paste.unlisted.example): the evaluation exceeds its deadline of"},
	{name: "a builtin's error", text: "deny contains {\"rule\": \"zz\"} if {\n\tinput.target.host == \"paste.unlisted.example\"\n\tnet.cidr_contains(\"10.0.0.0/8\", input.target.host)\n}\n", line: 5, kind: "probe_failed", says: "net.cidr_contains: not"},
}
