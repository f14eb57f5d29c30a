package e2e

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestGitSource: a server whose policy is in a Git repository activates what is
// pushed, keeps what it has when the server rewinds history or fails, and
// starts without it.
func TestGitSource(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	var away atomic.Bool
	git, commit, first := w.policyFromGit(t, &away, "")
	w.start()
	decided := func(commit, verdict string) {
		t.Helper()
		c := w.production()
		a := w.connect(t, c, "late.partner.example:443")
		if verdict == "deny" {
			a.refused(t, 403, "no_rule_matched")
		}
		row := w.decision(t, c)
		if row["commit"] != commit || row["verdict"] != verdict {
			t.Errorf("%v by %v, want %s by %s", row["verdict"], row["commit"], verdict, commit)
		}
	}
	decided(first, "deny")

	if err := os.WriteFile(filepath.Join(w.policy, "egress", "late.rego"), []byte("package sallyport.egress\n\nallow contains {\"rule\": \"late\"} if input.target.host == \"late.partner.example\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := commit()
	if out, err := w.reloadPolicy(); err != nil || !strings.Contains(out, "new") {
		t.Fatalf("%v: %s", err, out)
	}
	decided(second, "allow")

	pushed := second
	second = hostileFolder(t, w, commit)
	decided(second, "allow")
	rejectedCommits(t, w, git, commit)
	git("reset", "--quiet", "--hard", first)
	if out, err := w.reloadPolicy(); err == nil || !strings.Contains(out, "does not follow on "+second) {
		t.Errorf("%v: %s", err, out)
	}
	decided(second, "allow")
	away.Store(true)
	if out, err := w.reloadPolicy(); err == nil || !strings.Contains(out, "503") {
		t.Errorf("%v: %s", err, out)
	}
	changes := w.query(t, `SELECT kind, commit, attributes FROM audit.policy_changes WHERE (attributes ->> 'author' LIKE 'Kim%' OR commit IS NULL) AND kind NOT LIKE 'repository_%' ORDER BY time`)
	if len(changes) != 5 {
		t.Fatalf("audit.policy_changes has %v", changes)
	}
	for i, want := range []string{"policy_loaded " + first, "policy_loaded " + pushed, "policy_loaded " + second, "policy_rejected " + first, "policy_rejected <nil>"} {
		if got := fmt.Sprintf("%v %v", changes[i]["kind"], changes[i]["commit"]); got != want {
			t.Errorf("change %d is %s, want %s", i, got, want)
		}
	}
	if a := show(changes[3]["attributes"]); !strings.Contains(a, "rewound") {
		t.Errorf("the rewind is recorded as %s", a)
	}
	w.stop()
	w.restart() // the server is unavailable still
	decided(second, "allow")

	// Each policy_loaded event has the provenance that its commit states, the event of
	// the start from disk too.
	loaded := w.query(t, `SELECT attributes FROM audit.policy_changes WHERE kind = 'policy_loaded' ORDER BY time`)
	if len(loaded) != 4 {
		t.Fatalf("audit.policy_changes has %v", loaded)
	}
	for _, l := range loaded {
		a := show(l["attributes"])
		for _, want := range []string{"author:Kim <kim@acme.example>", "committer:Kim <kim@acme.example>", "subject:policy", "authored:2"} {
			if !strings.Contains(a, want) {
				t.Errorf("%s is not in %s", want, a)
			}
		}
		if strings.Contains(a, "signer:") {
			t.Errorf("a signer where signatures are not asked for: %s", a)
		}
	}
}

// hostileFolder pushes a link into the folder of one repository, and attributes that git
// refuses to check out: the commit is active, and the event names repository and cause.
func hostileFolder(t *testing.T, w *fixture, commit func() string) string {
	t.Helper()
	folder := filepath.Join(w.policy, "repositories", "acme", "tools")
	if err := os.WriteFile(filepath.Join(folder, ".gitattributes"), []byte(strings.Repeat("x", 3000)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("egress.rego", filepath.Join(folder, "link.rego")); err != nil {
		t.Fatal(err)
	}
	head := commit()
	if out, err := w.reloadPolicy(); err != nil || !strings.Contains(out, "new") {
		t.Fatalf("%v: %s", err, out)
	}
	var rows []fields
	eventually(t, "the event", func() bool {
		rows = w.query(t, `SELECT repository, repository_revision, message FROM audit.events WHERE kind = 'repository_policy_rejected' AND commit = $1`, head)
		return len(rows) > 0
	})
	if rows[0]["repository"] != "acme/tools" || rows[0]["repository_revision"] == nil || !strings.Contains(show(rows[0]["message"]), "link.rego: it is a symbolic link") {
		t.Errorf("recorded %v", rows)
	}
	return head
}

// rejectedCommits pushes what cannot decide, each for another reason, and sees that
// each rejection names the commit, its author in text that moves nothing, and the
// signature. A new commit with the same content is recorded for itself.
func rejectedCommits(t *testing.T, w *fixture, git func(...string) string, commit func() string) {
	t.Helper()
	good := git("rev-parse", "HEAD")
	const author = "Eve \u202e<script>alert(1)</script>"
	broken := filepath.Join(w.policy, "egress", "broken.rego")
	pushed := func(kind string) {
		t.Helper()
		git("add", "-A")
		git("commit", "--quiet", "--allow-empty", "--author", author+" <eve@acme.example>", "-m", "=cmd|'/C calc'!A0")
		head := git("rev-parse", "HEAD")
		if out, err := w.reloadPolicy(); err == nil {
			t.Fatalf("%s is accepted: %s", kind, out)
		}
		rows := w.query(t, `SELECT attributes, message FROM audit.policy_changes WHERE kind = 'policy_rejected' AND commit = $1`, head)
		if len(rows) != 1 {
			t.Fatalf("%s of %s is recorded %d times", kind, head, len(rows))
		}
		a := rows[0]["attributes"].(map[string]any)
		if a["kind"] != kind || a["signature"] != "not_required" || a["committer"] != "Kim <kim@acme.example>" || a["subject"] != "=cmd|'/C calc'!A0" ||
			a["author"] != `Eve \u{202e}scriptalert(1)/script <eve@acme.example>` && !strings.HasPrefix(fmt.Sprint(a["author"]), `Eve \u{202e}`) {
			t.Errorf("%s: %v", kind, a)
		}
	}
	if err := os.WriteFile(broken, []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if nothing.known\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pushed("does_not_load")
	pushed("does_not_load") // the same content in another commit
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	failing := filepath.Join(w.policy, "egress", "failing_test.rego")
	if err := os.WriteFile(failing, []byte("package sallyport.egress\n\ntest_fails if 1 == 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pushed("tests_failed")
	if err := os.Remove(failing); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", broken); err != nil {
		t.Fatal(err)
	}
	pushed("invalid_tree")
	git("reset", "--quiet", "--hard", good)
	if out, err := w.reloadPolicy(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// policyFromGit makes the policy's directory a Git repository with one commit, serves
// it unless away is true, and configures it as the source of policy, with more keys of
// the section policy.
func (w *fixture) policyFromGit(t *testing.T, away *atomic.Bool, more string) (git func(...string) string, commit func() string, first string) {
	t.Helper()
	git = func(arguments ...string) string {
		t.Helper()
		cmd := exec.Command("git", arguments...)
		cmd.Dir = w.policy
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
			"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", arguments, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit = func() string {
		t.Helper()
		git("add", "-A")
		git("commit", "--quiet", "--allow-empty", "-m", "policy")
		return git("rev-parse", "HEAD")
	}
	git("init", "--quiet", "--initial-branch=main")
	first = commit()
	backend := &cgi.Handler{
		Path: filepath.Join(git("--exec-path"), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(w.policy), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + w.Directory,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		InheritEnv: []string{"PATH"}, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(rw, "later", http.StatusServiceUnavailable)
			return
		}
		backend.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	source := fmt.Sprintf("  git: {url: %q, poll_interval: 24h}\n%s", server.URL+"/policy/.git", more)
	changed := strings.Replace(string(text), fmt.Sprintf("  directory: %q\n", w.policy), source, 1)
	if err := os.WriteFile(w.config, []byte(changed), 0o600); err != nil || changed == string(text) {
		t.Fatal(err, changed)
	}
	return git, commit, first
}

// reloadPolicy has the server check its policy, and returns what the operator
// reads.
func (w *fixture) reloadPolicy() (string, error) {
	out, err := exec.Command(released(w.t), "policy", "reload", "-c", w.config).CombinedOutput()
	return string(out), err
}
