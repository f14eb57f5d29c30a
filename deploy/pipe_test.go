package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// recorder is a program in the place of sallyport-step: it prints its arguments.
const recorder = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"

// runPipe runs pipe.sh with these variables of a step.
func runPipe(t *testing.T, variables map[string]string) (output, clone string, err error) {
	t.Helper()
	programs, clone := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "sallyport-step"), []byte(recorder), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "pipe/pipe.sh")
	cmd.Env = []string{"PATH=" + programs + ":" + os.Getenv("PATH"), "BITBUCKET_CLONE_DIR=" + clone, "BITBUCKET_STEP_OIDC_TOKEN=eyJ.x.y", "PROXY=https://egress.acme.example:3129"}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "eyJ.x.y") {
		t.Errorf("the token is in the output or in an argument: %s", out)
	}
	return string(out), clone, err
}

func TestPipe(t *testing.T) {
	t.Parallel()
	const proxy = "--proxy=https://egress.acme.example:3129\n"
	for name, c := range map[string]struct {
		variables map[string]string
		want      string
	}{
		"doctor":  {map[string]string{"ACTION": "doctor"}, "doctor\n" + proxy},
		"targets": {map[string]string{"ACTION": "doctor", "TO_COUNT": "2", "TO_0": "a.example:443", "TO_1": "[2001:db8::1]:443"}, "doctor\n" + proxy + "--to=a.example:443\n--to=[2001:db8::1]:443\n"},
		"proxies": {map[string]string{"ACTION": "doctor", "PROXY_COUNT": "2", "PROXY_0": "https://a.example:1", "PROXY_1": "https://b.example:1"}, "doctor\n--proxy=https://a.example:1\n--proxy=https://b.example:1\n"},
		"report":  {map[string]string{"ACTION": "report"}, "report\n" + proxy},
		"insights": {map[string]string{"ACTION": "report", "CODE_INSIGHTS": "true", "CA_FILE": "pipe/pipe.yml"},
			"report\n" + proxy + "--code-insights\n--bitbucket-proxy=host.docker.internal:29418\n--ca-file=pipe/pipe.yml\n"},
		"network": {map[string]string{"ACTION": "check-network", "TCP": "198.51.100.7:443", "IPV6_COUNT": "1", "IPV6_0": "2001:db8::7", "METADATA": "169.254.169.254"},
			"check-network\n" + proxy + "--tcp=198.51.100.7:443\n--ipv6=2001:db8::7\n--metadata=169.254.169.254\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, _, err := runPipe(t, c.variables); err != nil || out != c.want {
				t.Errorf("%v\n%s\nwant\n%s", err, out, c.want)
			}
		})
	}
}

// TestPipeInstalls: the program is in the clone, executable and ignored by git, and the
// printed line starts it.
func TestPipeInstalls(t *testing.T) {
	t.Parallel()
	out, clone, err := runPipe(t, nil)
	if err != nil || !strings.Contains(out, `eval "$(.sallyport/sallyport-step start --proxy=https://egress.acme.example:3129 || echo false)"`) {
		t.Fatalf("%v %s", err, out)
	}
	got, err := exec.CommandContext(t.Context(), filepath.Join(clone, ".sallyport", "sallyport-step"), "start").CombinedOutput()
	if err != nil || string(got) != "start\n" {
		t.Errorf("%v %s", err, got)
	}
	if ignored, err := os.ReadFile(filepath.Join(clone, ".sallyport", ".gitignore")); err != nil || string(ignored) != "*\n" {
		t.Errorf("%v %q", err, ignored)
	}
}

func TestPipeRefuses(t *testing.T) {
	t.Parallel()
	for want, variables := range map[string]map[string]string{
		"PROXY is not set":      {"PROXY": ""},
		"no OIDC token":         {"BITBUCKET_STEP_OIDC_TOKEN": ""},
		`ACTION is "deploy"`:    {"ACTION": "deploy"},
		`CODE_INSIGHTS is "ja"`: {"ACTION": "report", "CODE_INSIGHTS": "ja"},
		"CA_FILE /nonexistent":  {"CA_FILE": "/nonexistent"},
		"TO_COUNT is not":       {"ACTION": "doctor", "TO_COUNT": "1; reboot"},
		"at most 32":            {"ACTION": "doctor", "TO_COUNT": "33"},
		"value for --to":        {"ACTION": "doctor", "TO": "$(touch pwned) --json"},
		"value for --tcp":       {"ACTION": "check-network", "TCP_COUNT": "2", "TCP_0": "192.0.2.1"},
	} {
		out, clone, err := runPipe(t, variables)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v %s, want %s", err, out, want)
		}
		if _, err := os.Stat(filepath.Join(clone, ".sallyport")); err == nil {
			t.Errorf("%s: the program is installed", want)
		}
	}
}

// TestPipeIsDescribed holds pipe.yml, pipe.sh, README.md and the Dockerfile together: each
// variable of pipe.yml is read and described, and the image has what the script runs.
func TestPipeIsDescribed(t *testing.T) {
	t.Parallel()
	var p struct {
		Name, Image, Description, Category, Repository string
		Vendor, Maintainer                             map[string]string
		Tags                                           []string
		Variables                                      []struct{ Name, Default string }
	}
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "pipe/pipe.yml")), &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	script, readme, image := read(t, "pipe/pipe.sh"), read(t, "pipe/README.md"), read(t, "pipe/Dockerfile")
	if len(p.Variables) < 8 || p.Image == "" {
		t.Fatalf("%+v", p)
	}
	for _, v := range p.Variables {
		if !strings.Contains(script, v.Name) || !strings.Contains(readme, "`"+v.Name+"`") {
			t.Errorf("%s is not read by pipe.sh, or not in README.md", v.Name)
		}
	}
	if !strings.Contains(readme, p.Image) || !strings.Contains(image, p.Image) || !strings.Contains(image, "/usr/local/bin/sallyport-step") || !strings.Contains(image, `ENTRYPOINT ["/pipe.sh"]`) {
		t.Error("the image is not the one that pipe.yml names")
	}
	if info, err := os.Stat("pipe/pipe.sh"); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("pipe.sh is not executable: %v", err)
	}
}
