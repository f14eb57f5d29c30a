package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	pageCommand = regexp.MustCompile("sallyport policy [a-z-]+[^`\n]*")
	pageFlag    = regexp.MustCompile(`--[a-z-]+`)
)

// TestPolicyPage: every command that the guide and the reference name is there, with
// the flags that they name; and a policy answers what the reference documents.
// TestGuide runs the guide itself.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	page := ""
	for _, name := range []string{"../docs/policy.md", "../docs/policy-reference.md"} {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		page += string(raw)
	}
	seen := map[string]bool{}
	for _, line := range pageCommand.FindAllString(page, -1) {
		name := strings.TrimRight(strings.Fields(line)[2], ":.,")
		help := runCommand(t, 0, "policy", name, "--help")
		if !strings.Contains(help, "sallyport policy "+name) {
			t.Errorf("%s: there is no such command", line)
		}
		for _, flag := range pageFlag.FindAllString(line, -1) {
			if !strings.Contains(help, flag+" ") && !strings.Contains(help, flag+"[=") {
				t.Errorf("%s: it has no %s", line, flag)
			}
		}
		seen[name] = true
	}
	for _, name := range []string{"eval", "explain", "replay", "diff", "who-can", "suggest", "rollout", "check", "test", "vendor", "init"} {
		if !seen[name] {
			t.Errorf("the page does not name %s", name)
		}
	}

	_, example, _ := strings.Cut(page, "```text\n  verdict ")
	example, _, _ = strings.Cut("  verdict "+example, "```")
	output := runCommand(t, 0, "policy", "eval", "../deploy/policy-repository", "--as", "repository=acme/payments,deployment=staging", "--to", "api.partner.example", "--explain")
	for line := range strings.Lines(example) {
		if !strings.Contains(output, line) {
			t.Errorf("the page says %q, and the program does not:\n%s", line, output)
		}
	}
}
