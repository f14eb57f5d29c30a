package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyInitWorkspace: for a named workspace nothing is left to rename, the checks
// find nothing, and its tests go through every line.
func TestPolicyInitWorkspace(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "policy")
	checkContains(t, runCommand(t, 0, "policy", "init", directory, "--workspace", "umbrella"), "egress/guardrails.rego", "data/guardrails/public.yaml")
	checkContains(t, runCommand(t, 0, "policy", "check", directory, "--strict"), "0 warnings")
	checkContains(t, runCommand(t, 0, "policy", "test", directory, "--min-coverage", "100"), "0 failed")
	for _, host := range []string{"pastebin.com", "api.pastebin.com", "metadata.google.internal"} {
		checkContains(t, runCommand(t, 0, "policy", "eval", directory, "--as", "repository=umbrella/website", "--to", host, "--expect", "deny"), "policy_denied")
	}
	err := filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, left := range []string{"acme", "partner.example\"", "pastebin.example", "cloud.example"} {
			if strings.Contains(string(text), left) && !strings.HasSuffix(path, "README.md") {
				t.Errorf("%s has %s", path, left)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"Acme", "acme/payments", "", "a b"} {
		checkContains(t, runCommand(t, 2, "policy", "init", filepath.Join(t.TempDir(), "x"), "--workspace", bad), "not the slug of a workspace")
	}
}
