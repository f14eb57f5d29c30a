package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
)

// TestSoakReloads changes the policy of a running server again and again, in a
// directory and in a Git repository, while steps continue asking. Afterwards every
// decision recorded names a revision, and is reproduced by what the log holds
// under it.
func TestSoakReloads(t *testing.T) {
	t.Parallel()
	// Both run before there is load, which uses up ports.
	directory, git := newFixture(t, options{extra: soakLimits}), newFixture(t, options{extra: soakLimits})
	commit := policyInGit(t, git)
	directory.start()
	git.start()
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		reloadUnderLoad(t, directory, reloadsOfDirectory, func() error { return nil })
	})
	t.Run("git", func(t *testing.T) {
		t.Parallel()
		reloadUnderLoad(t, git, reloadsOfGit, commit)
	})
}

// policyInGit makes a Git repository of the fixture's policy, on a server, and has the
// configuration name it. What it returns commits what has changed.
func policyInGit(t *testing.T, w *fixture) func() error {
	git := func(arguments ...string) error {
		cmd := exec.CommandContext(t.Context(), "git", arguments...)
		cmd.Dir = w.policy
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
			"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %v: %w\n%s", arguments, err, out)
		}
		return nil
	}
	commit := func() error {
		if err := git("add", "-A"); err != nil {
			return err
		}
		return git("commit", "--quiet", "--allow-empty", "-m", "policy")
	}
	for _, err := range []error{git("init", "--quiet", "--initial-branch=main"), commit()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	source := fmt.Sprintf("  git: {url: %q, poll_interval: 24h}\n", gitServer(t, filepath.Dir(w.policy))+"/"+filepath.Base(w.policy)+"/.git")
	changed := strings.Replace(string(text), fmt.Sprintf("  directory: %q\n", w.policy), source, 1)
	if err := os.WriteFile(w.config, []byte(changed), 0o600); err != nil || changed == string(text) {
		t.Fatal(err, changed)
	}
	return commit
}

// reloadUnderLoad changes the policy so often that each state differs from the one
// before in who may do what, and checks what was recorded meanwhile.
func reloadUnderLoad(t *testing.T, w *fixture, reloads int, offer func() error) {
	target := echo(t)
	steps := []caller{w.production(), w.caller(w.Payments, nil, "feature/x"), w.caller(w.Website, nil, "main"), w.caller(w.Tools, nil, "main")}
	loads := []*load{w.underLoad("turn.partner.example:"+target.port, steps), w.underLoad("own.tools.example:"+target.port, steps[2:])}
	control := admin.NewControlClient(w.data)
	revisions, began := map[string]bool{}, time.Now()
	for n := range reloads {
		changePolicy(t, w, n)
		if err := offer(); err != nil {
			t.Fatal(err)
		}
		state, err := control.ReloadPolicy(t.Context())
		if err != nil || state.LastReloadError != "" {
			t.Fatalf("reload %d: %v %s", n, err, state.LastReloadError)
		}
		revisions[state.Revision] = true
	}
	took := time.Since(began)
	answers := map[string]int{}
	for _, l := range loads {
		for _, r := range l.end() {
			if r.status == 429 && r.reason == "step_limit" {
				continue // refused by many rules within a second
			}
			if r.err != nil || r.status != 200 && r.status != 403 || r.reason == "policy_error" {
				t.Errorf("a step was answered %d %q: %v", r.status, r.reason, r.err)
			}
			answers[fmt.Sprint(r.status, " ", r.reason)]++
		}
	}
	if len(revisions) != reloads || len(answers) != 3 {
		t.Errorf("%d reloads, %d revisions, and the answers were %v", reloads, len(revisions), answers)
	}

	output := w.operatorCommand(t, 0, "policy", "replay", "--as-decided", "--since", "1d")
	checkContains(t, output, "0 of ", "do not come out as they were recorded")
	t.Logf("%d reloads in %v; answers: %v\n%s", reloads, took.Round(time.Millisecond), answers, output)
	count := func(from string) int {
		t.Helper()
		n, _ := w.query(t, `SELECT count(*) AS n FROM `+from)[0]["n"].(float64)
		return int(n)
	}
	if count(`audit.decisions`) == 0 {
		t.Error("nothing is on record")
	}
	if n := count(`audit.decisions WHERE revision IS NULL`); n != 0 {
		t.Errorf("%d decisions have no revision", n)
	}
	if n := count(`audit.decisions d WHERE NOT EXISTS (SELECT 1 FROM audit.policies p WHERE p.digest = d.revision)`); n != 0 {
		t.Errorf("%d decisions have a revision that is not kept", n)
	}
	// A decision is by a revision that was recorded as deciding before it was.
	if n := count(`audit.events d WHERE d.kind = 'decision' AND NOT EXISTS (SELECT 1 FROM audit.events c
		WHERE c.kind = 'policy_loaded' AND c.revision = d.revision AND c.writer = d.writer AND c.writer_sequence < d.writer_sequence)`); n != 0 {
		t.Errorf("%d decisions are by a revision that had not been announced", n)
	}
	decided := count(`(SELECT DISTINCT revision FROM audit.decisions) d`)
	if decided < reloads/2 {
		t.Errorf("%d revisions have decided anything", decided)
	}
}

// changePolicy writes the nth state: the organization's rules, a list and a
// repository's own rules change, each file in one step.
func changePolicy(t *testing.T, w *fixture, n int) {
	t.Helper()
	who := []string{"acme/payments", "acme/website", "acme/tools"}[n%3]
	for path, text := range map[string]string{
		"egress/turn.rego": fmt.Sprintf(`package sallyport.egress

allow contains {"rule": "turn-%d", "protocol": "any"} if {
	startswith(input.target.host, "turn.")
	input.principal.repository.full_name in data.turn.allowed
}

deny contains {"rule": "not-now-%d"} if {
	input.principal.branch == "feature/x"
	data.turn.number %% 2 == 0
}

delegate contains {"rule": "own-%d"} if data.turn.number %% 4 != 0
`, n, n, n),
		"data/turn/list.yaml":               fmt.Sprintf("number: %d\nallowed: [%s]\n", n, who),
		"repositories/acme/tools/turn.rego": fmt.Sprintf("package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"turn-%d\", \"protocol\": \"any\"} if input.target.host == \"own.tools.example\"\n", n%7),
	} {
		path = filepath.Join(w.policy, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}
