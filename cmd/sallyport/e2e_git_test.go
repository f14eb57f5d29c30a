package main_test

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

// TestGitSource: a server whose policy is in a Git repository takes what is
// pushed, keeps what it has when the server rewinds history or goes away, and
// starts without it.
func TestGitSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	git := func(arguments ...string) string {
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
	commit := func() string {
		t.Helper()
		git("add", "-A")
		git("commit", "--quiet", "--allow-empty", "-m", "policy")
		return git("rev-parse", "HEAD")
	}
	git("init", "--quiet", "--initial-branch=main")
	first := commit()
	var away atomic.Bool
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
	source := fmt.Sprintf("  git: {url: %q, poll: 24h}\n", server.URL+"/policy/.git")
	changed := strings.Replace(string(text), fmt.Sprintf("  directory: %q\n", w.policy), source, 1)
	if err := os.WriteFile(w.config, []byte(changed), 0o600); err != nil || changed == string(text) {
		t.Fatal(err, changed)
	}
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

	git("reset", "--quiet", "--hard", first)
	if out, err := w.reloadPolicy(); err == nil || !strings.Contains(out, "does not follow on "+second) {
		t.Errorf("%v: %s", err, out)
	}
	decided(second, "allow")
	away.Store(true)
	if out, err := w.reloadPolicy(); err == nil || !strings.Contains(out, "503") {
		t.Errorf("%v: %s", err, out)
	}
	changes := w.query(t, `SELECT kind, commit, attributes FROM audit.policy_changes ORDER BY time`)
	if len(changes) != 4 {
		t.Fatalf("audit.policy_changes has %v", changes)
	}
	for i, want := range []string{"policy_loaded " + first, "policy_loaded " + second, "policy_rejected " + first, "policy_rejected <nil>"} {
		if got := fmt.Sprintf("%v %v", changes[i]["kind"], changes[i]["commit"]); got != want {
			t.Errorf("change %d is %s, want %s", i, got, want)
		}
	}
	if a := show(changes[2]["attributes"]); !strings.Contains(a, "rewound") {
		t.Errorf("the rewind is recorded as %s", a)
	}
	w.stop()
	w.restart() // the server is away still
	decided(second, "allow")

	// Each event by which a commit began to decide says what the commit says of
	// itself, that from the disk too.
	loaded := w.query(t, `SELECT attributes FROM audit.policy_changes WHERE kind = 'policy_loaded' ORDER BY time`)
	if len(loaded) != 3 {
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

// reloadPolicy has the server look at its policy, and returns what the operator
// reads.
func (w *world) reloadPolicy() (string, error) {
	out, err := exec.Command(w.program, "policy", "reload", "-c", w.config).CombinedOutput()
	return string(out), err
}
