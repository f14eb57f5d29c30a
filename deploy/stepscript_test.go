package deploy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stepProgram is what the proxy offers in the place of sallyport-step.
const stepProgram = "#!/bin/sh\necho \"export STARTED='$*'\"\n"

// scriptEnv runs a script in an environment where the proxy offers a program.
type scriptEnv struct {
	proxy, ca, directory string
}

func newScriptEnv(t *testing.T, program string) *scriptEnv {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/sallyport-step/linux-") || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		_, _ = io.WriteString(w, program)
	}))
	t.Cleanup(server.Close)
	e := &scriptEnv{proxy: server.URL, directory: t.TempDir()}
	e.ca = filepath.Join(e.directory, "ca.pem")
	if err := os.WriteFile(e.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return e
}

// source sources a script as a step does, and returns the variables behind it. A closed
// proxy variable makes a fetch through it fail.
func (e *scriptEnv) source(t *testing.T, script string, variables map[string]string) (env map[string]string, output string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sallyport.sh")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-uc", `. "$0"; status=$?; env; exit $status`, path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + e.directory, "CURL_CA_BUNDLE=" + e.ca, "HTTPS_PROXY=http://127.0.0.1:9",
		"BITBUCKET_STEP_OIDC_TOKEN=eyJ.x.y", "SALLYPORT_PROXY=" + e.proxy}
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	env = map[string]string{}
	for line := range strings.Lines(stdout.String()) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	if strings.Contains(stderr.String(), "eyJ.x.y") {
		t.Errorf("the token is printed: %s", stderr.String())
	}
	return env, stderr.String(), err
}

func checksum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// both is the checksum for each architecture.
func both(sum string) map[string]string {
	return map[string]string{"SALLYPORT_SHA256_AMD64": sum, "SALLYPORT_SHA256_ARM64": sum}
}

const closedProxy = "http://127.0.0.1:9"

func TestStepScriptStarts(t *testing.T) {
	t.Parallel()
	e := newScriptEnv(t, stepProgram)
	env, output, err := e.source(t, read(t, "step/sallyport.sh"), both(checksum(stepProgram)))
	if err != nil || env["STARTED"] != "start --proxy "+e.proxy {
		t.Errorf("%v %q %s", err, env["STARTED"], output)
	}
}

// TestStepScriptFails: whatever fails, tools get a closed port and the status is not 0.
func TestStepScriptFails(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		program   string
		variables map[string]string
	}{
		"has the checksum": {stepProgram + "# changed", both(checksum(stepProgram))},
		"cannot be fetched": {stepProgram, map[string]string{"SALLYPORT_PROXY": "https://127.0.0.1:9",
			"SALLYPORT_SHA256_AMD64": checksum(stepProgram), "SALLYPORT_SHA256_ARM64": checksum(stepProgram)}},
		"printed nothing":             {"#!/bin/sh\nexit 1\n", both(checksum("#!/bin/sh\nexit 1\n"))},
		"has user information":        {stepProgram, map[string]string{"SALLYPORT_PROXY": "https://step:eyJ.x.y@egress.example"}},
		"does not begin with":         {stepProgram, map[string]string{"SALLYPORT_PROXY": "http://egress.example"}},
		"SALLYPORT_PROXY is not":      {stepProgram, map[string]string{"SALLYPORT_PROXY": ""}},
		"BITBUCKET_STEP_OIDC_TOKEN i": {stepProgram, map[string]string{"BITBUCKET_STEP_OIDC_TOKEN": ""}},
	} {
		env, output, err := newScriptEnv(t, c.program).source(t, read(t, "step/sallyport.sh"), c.variables)
		if err == nil || !strings.Contains(output, want) {
			t.Errorf("%v %s, want %s", err, output, want)
		}
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			if env[name] != closedProxy || env["STARTED"] != "" {
				t.Errorf("%s: %s is %q, STARTED is %q", want, name, env[name], env["STARTED"])
			}
		}
	}
}

// TestStepScriptChecksumIsNeeded: without the comparison a changed program runs.
func TestStepScriptChecksumIsNeeded(t *testing.T) {
	t.Parallel()
	script := read(t, "step/sallyport.sh")
	without := strings.Replace(script, `if [ "${sallyport_got%% *}" != "$sallyport_sum" ]; then`, "if false; then", 1)
	if without == script {
		t.Fatal("the script has no comparison")
	}
	const changed = stepProgram + "# changed\n"
	e := newScriptEnv(t, changed)
	if env, output, err := e.source(t, without, both(checksum(stepProgram))); err != nil || env["STARTED"] == "" {
		t.Errorf("the changed program did not run: %v %s", err, output)
	}
}

// TestStepScriptWithoutChecksum: the variables have the token, in both spellings.
func TestStepScriptWithoutChecksum(t *testing.T) {
	t.Parallel()
	e := newScriptEnv(t, stepProgram)
	env, output, err := e.source(t, read(t, "step/sallyport.sh"), map[string]string{"SALLYPORT_PROXY": "https://egress.acme.example:3129/", "NO_PROXY": "db"})
	want := "https://step:eyJ.x.y@egress.acme.example:3129"
	if err != nil || !strings.Contains(output, "no checksum") || env["STARTED"] != "" {
		t.Errorf("%v %s", err, output)
	}
	for name, value := range map[string]string{"HTTPS_PROXY": want, "https_proxy": want, "HTTP_PROXY": want, "http_proxy": want,
		"NO_PROXY": "db,localhost,127.0.0.1,host.docker.internal", "no_proxy": "db,localhost,127.0.0.1,host.docker.internal", "GIT_HTTP_PROXY_AUTHMETHOD": "basic"} {
		if env[name] != value {
			t.Errorf("%s is %q, want %q", name, env[name], value)
		}
	}
}
