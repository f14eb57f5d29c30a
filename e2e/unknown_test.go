package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnknownRepositories: a repository that a policy enforces or delegates to, and that
// the workspace does not have, is a warning at activation and in `config check
// --online`, and an error of `policy check` with the list.
func TestUnknownRepositories(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	write := func(rule string) {
		text := "package sallyport.egress\n\nreport contains {\"rule\": \"" + rule + "\"} if not input.principal.repository.full_name in {\"acme/payments\", \"acme/webiste\"}\n"
		if err := os.WriteFile(filepath.Join(w.policy, "egress", "enforced.rego"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	const warning = `no repository is named \"acme/webiste\"`
	plain := strings.ReplaceAll(warning, `\`, "")
	if output := w.operatorCommand(t, 0, "config", "check", "--online"); !strings.Contains(output, "warning policy: egress/enforced.rego:3") || !strings.Contains(output, plain) || !strings.Contains(output, "did you mean acme/website?") {
		t.Error(output)
	}
	if output := w.operatorCommand(t, 0, "config", "check"); strings.Contains(output, plain) {
		t.Errorf("it asked Bitbucket without --online: %s", output)
	}
	list := filepath.Join(t.TempDir(), "repositories")
	if err := os.WriteFile(list, []byte("acme/payments\nacme/website\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ := command(t, "policy", "check", w.policy, "--repositories", list)
	if code != 1 || !strings.Contains(out, plain) || strings.Contains(out, "warning: ") {
		t.Errorf("policy check: %d %s", code, out)
	}
	w.start()
	seen := func(n int) func() bool {
		return func() bool { return strings.Count(w.log.text(), warning) >= n }
	}
	eventually(t, "the repository is reported at the start", seen(1))
	write("second")
	w.operatorCommand(t, 0, "policy", "reload")
	eventually(t, "the repository is reported with the next revision", seen(2))
}
