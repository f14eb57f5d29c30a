package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestPolicyPipeline runs the scripts of the policy repository's own pipeline as
// they stand, with the real program: they pass for what is shipped, and fail for
// a policy that does not load.
func TestPolicyPipeline(t *testing.T) {
	var file struct {
		Definitions struct {
			Steps []struct {
				Step struct {
					Name   string
					Script []string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "policy-repository/bitbucket-pipelines.yml")), &file); err != nil {
		t.Fatal(err)
	}
	steps := file.Definitions.Steps
	if len(steps) != 2 || len(steps[0].Step.Script) < 3 || len(steps[1].Step.Script) < 2 {
		t.Fatalf("the file was read as %+v", file)
	}
	programs, repository := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", programs+string(filepath.Separator), "../cmd/sallyport")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.CopyFS(repository, os.DirFS("policy-repository")); err != nil {
		t.Fatal(err)
	}
	run := func(script []string) error {
		cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", strings.Join(script, "\n"))
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "AUDIT_EXPORT_URL=")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	for _, s := range steps {
		if err := run(s.Step.Script); err != nil {
			t.Errorf("%s: %v", s.Step.Name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(repository, "test-results", "policy.xml")); err != nil || info.Size() == 0 {
		t.Errorf("Bitbucket finds no test results: %v", err)
	}
	bad := filepath.Join(repository, "egress", "bad.rego")
	if err := os.WriteFile(bad, []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if http.send({})\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if run(steps[0].Step.Script) == nil {
		t.Error("a policy that does not load passes")
	}
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repository, "audit.jsonl"), []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if run(steps[1].Step.Script) == nil {
		t.Error("an export that is none passes")
	}
}
