package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/clientmatrix"
)

const (
	sampleDirectory = "testdata/sample"
	sampleProxy     = "egress.acme.example" // as docs/pipelines.md names the proxy
)

// samplePolicy is the organization's policy for the sample repository.
const samplePolicy = `package sallyport.egress

allow contains {"rule": "registries"} if input.target.host in {"repo.example", "npm.example", "modules.example", "files.example"}

delegate contains {"rule": "own-rules"}
`

// TestSample runs the steps of a sample repository as docs/pipelines.md has them: each in
// an environment with Bitbucket's variables only, and in a network that reaches nothing but
// the proxy. The last step requests a target that no rule allows; the target is found,
// suggested, committed and allowed by the commands of the guides.
func TestSample(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for _, step := range s.steps {
		if missing := step.missing(); missing != "" {
			t.Logf("step %s is not run: %s is not installed", step.Name, missing)
			continue
		}
		t.Run(step.Name, func(t *testing.T) {
			t.Parallel()
			if step.Name == "Settle" {
				s.settle(t, step)
				return
			}
			run := s.run(t, step, step.Script)
			if run.status != 0 || !strings.Contains(run.output, step.want()) {
				t.Errorf("status %d:\n%s", run.status, run.output)
			}
			if !regexp.MustCompile(`allowed +\d+ +` + regexp.QuoteMeta(step.host())).MatchString(run.after) {
				t.Errorf("the report does not have %s:\n%s", step.host(), run.after)
			}
			if rows := s.w.query(t, `SELECT DISTINCT host, verdict FROM audit.decisions WHERE step_uuid = $1::text::uuid`, run.caller.step.UUID); len(rows) != 1 || rows[0]["host"] != step.host() || rows[0]["verdict"] != "allow" {
				t.Errorf("in the log of the step: %v", rows)
			}
		})
	}
}

// TestSampleNetworkIsNeeded: without the line that starts the forwarder, no request leaves
// the step: what TestSample's steps reached went through the proxy.
func TestSampleNetworkIsNeeded(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	step := s.steps[len(s.steps)-1]
	var without []string
	for _, line := range step.Script {
		if !strings.HasPrefix(line, "eval ") {
			without = append(without, line)
		}
	}
	without[len(without)-1] = "curl -fsS --max-time 30 https://repo.example/"
	if run := s.run(t, step, without); run.status == 0 || !strings.Contains(run.output, "curl: (6)") && !strings.Contains(run.output, "curl: (7)") {
		t.Errorf("status %d:\n%s", run.status, run.output)
	}
}

// settle is what an author does whose step requests a denied target.
func (s *sample) settle(t *testing.T, step *sampleStep) {
	run := s.run(t, step, step.Script)
	const target = "settle.partner.example:443"
	if run.status == 0 {
		t.Fatalf("the target is not denied:\n%s", run.output)
	}
	checkContains(t, run.output, "sallyport: denied "+target+": no_rule_matched; decision ")
	checkContains(t, run.after, "repositories/acme/payments/requested.rego", `"settle.partner.example"`)
	// The report's rules load in the policy repository.
	file := requestedRules(run.after)
	checkout := filepath.Join(t.TempDir(), "policy")
	if err := os.CopyFS(checkout, os.DirFS(s.w.policy)); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(filepath.Join(checkout, ".git"))
	requested := filepath.Join(checkout, "repositories/acme/payments/requested.rego")
	if err := os.MkdirAll(filepath.Dir(requested), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(requested, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	checkContains(t, runCommand(t, 0, "policy", "check", "--strict", checkout), "accepted")

	// The owner of the policy suggests from the log, commits, and has the server fetch it.
	out := s.w.operatorCommand(t, 0, "policy", "suggest", "--repository", "acme/payments", "--refused", "--out", s.w.policy, "--since", "1h")
	checkContains(t, out, "acme/payments: 1 target, in repositories/acme/payments/observed.rego")
	s.commit()
	if out, err := s.w.reloadPolicy(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	again := s.run(t, step, step.Script)
	if again.status != 0 || !strings.Contains(again.output, clientmatrix.Greeting) {
		t.Errorf("after the commit: status %d\n%s\n%s", again.status, again.output, again.after)
	}
}

// requestedRules are the rules in a report.
func requestedRules(report string) string {
	_, rules, _ := strings.Cut(report, "requested.rego:\n\n")
	if end := strings.Index(rules, "\n}\n"); end >= 0 {
		rules = rules[:end+3]
	}
	return rules
}

// sampleStep is a step of bitbucket-pipelines.yml.
type sampleStep struct {
	Name        string   `yaml:"name"`
	Script      []string `yaml:"script"`
	AfterScript []string `yaml:"after-script"`
}

// missing is a program of the step that is not installed.
func (s *sampleStep) missing() string {
	for _, program := range map[string][]string{"Maven": {"mvn"}, "npm": {"npm"}, "Go": {"go"}, "Image": {"go", "buildah", "python3"}}[s.Name] {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// host is the only target of the step.
func (s *sampleStep) host() string {
	return map[string]string{"Maven": "repo.example", "npm": "npm.example", "Go": "modules.example", "Image": "files.example"}[s.Name]
}

// want is what the script prints when everything worked.
func (s *sampleStep) want() string {
	return map[string]string{"Maven": "<groupId>example.left</groupId>", "npm": `"left-wall"`, "Go": "built with the wall", "Image": clientmatrix.Greeting}[s.Name]
}

// sample is a server with the sample's policy, and what is in front of it.
type sample struct {
	w         *fixture
	steps     []*sampleStep
	directory string
	cache     string // of the Go compiler: the image has built the standard library
	checksum  string // of the program that the server offers
	commit    func() string
}

func newSample(t *testing.T) *sample {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give a step a network and files of its own")
	}
	s := &sample{directory: t.TempDir()}
	raw, err := os.ReadFile(filepath.Join(sampleDirectory, "bitbucket-pipelines.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var pipelines struct {
		Pipelines struct {
			Branches map[string][]struct {
				Step *sampleStep `yaml:"step"`
			} `yaml:"branches"`
		} `yaml:"pipelines"`
	}
	if err := yaml.Unmarshal(raw, &pipelines); err != nil {
		t.Fatal(err)
	}
	for _, item := range pipelines.Pipelines.Branches["main"] {
		s.steps = append(s.steps, item.Step)
	}
	if len(s.steps) != 5 {
		t.Fatalf("%d steps", len(s.steps))
	}
	if code, cache, _ := execute(t, exec.Command(goProgram(), "env", "GOCACHE")); code == 0 {
		s.cache = strings.TrimSpace(cache)
	}
	s.serve(t)
	return s
}

// serve starts the server. Its egress leaves through another proxy, which knows the port
// 443 of the emulated internet.
func (s *sample) serve(t *testing.T) {
	t.Helper()
	binaries := filepath.Join(s.directory, "binaries")
	if err := os.Mkdir(binaries, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(binaries, "linux-amd64")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../cmd/sallyport-step")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if code, _, output := execute(t, build); code != 0 {
		t.Fatal(output)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	s.checksum = fmt.Sprintf("%x", sha256.Sum256(content))
	if err := os.WriteFile(program+".sha256", []byte(s.checksum+"  linux-amd64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var upstream atomic.Pointer[string]
	exit := newTap(t, "127.0.0.1:0", func(c net.Conn) {
		if to := upstream.Load(); to != nil {
			tunnelTo(c, *to)
		}
	})
	s.w = newFixture(t, options{
		program: released(t), tls: true, handler: clientmatrix.Content(nil, nil), extra: fmt.Sprintf("step_binaries: %q\n", binaries),
		egress: fmt.Sprintf("  upstream_proxies:\n    - {proxy: %q, hosts: [\"*.example\"], dns: upstream}\n", "http://"+net.JoinHostPort(exit.host, exit.port)),
	})
	upstream.Store(new(fmt.Sprintf("127.0.0.1:%d", s.w.HTTPSPort)))
	if err := os.RemoveAll(s.w.policy); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(s.w.policy+"/egress", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.w.policy+"/egress/sample.rego", []byte(samplePolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	_, s.commit, _ = s.w.policyFromGit(t, new(atomic.Bool), "")
	if _, _, err := s.w.WriteCertificate(s.w.Directory, sampleProxy); err != nil {
		t.Fatal(err)
	}
	s.w.start()
}

// sampleRun is a step that has ended.
type sampleRun struct {
	caller caller
	status int
	output string // of the script
	after  string // of the after-script
}

// run runs a step as Bitbucket does: the lines of the script in one shell that ends at the
// first failure, then those of the after-script in another.
func (s *sample) run(t *testing.T, step *sampleStep, script []string) *sampleRun {
	t.Helper()
	r := &sampleRun{caller: s.w.caller(s.w.Payments, nil, "main")}
	directory := t.TempDir()
	if err := os.CopyFS(filepath.Join(directory, "clone"), os.DirFS(sampleDirectory)); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"script.sh": "set -e\n" + strings.ReplaceAll(strings.Join(script, "\n"), "SHA256-OF-THE-PROGRAM", s.checksum) + "\n",
		"after.sh":  strings.Join(step.AfterScript, "\n") + "\n",
		"image.sh":  sampleImage, "docker": sampleDocker,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "bash", filepath.Join(directory, "image.sh"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "STEP=" + directory, "CA=" + s.w.CAFile, "GO=" + filepath.Dir(goProgram()), "CACHE=" + s.cache,
		"TOKEN=" + r.caller.token, "STEP_UUID=" + bitbuckettest.Braced(r.caller.step.UUID)}
	var output lockedBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	s.inNetwork(t, cmd)
	r.status = cmd.ProcessState.ExitCode()
	r.output, r.after, _ = strings.Cut(output.String(), "--- after-script\n")
	if strings.Contains(output.String(), r.caller.token) {
		t.Error("the step prints the token")
	}
	return r
}

func goProgram() string {
	path, err := exec.LookPath("go")
	if err != nil {
		return "/bin/false"
	}
	return path
}

// inNetwork runs a command in a network namespace of its own. Connections to port 3129 of
// its loopback arrive at the proxy; there is nothing else, and no name server.
func (s *sample) inNetwork(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	type result struct {
		listener net.Listener
		err      error
	}
	opened, ended := make(chan result), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("sh", "-c", "ip link set lo up && ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up").Run()
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp4", "127.0.0.1:3129")
		}
		opened <- result{l, err}
		if err == nil {
			err = cmd.Run()
		}
		ended <- err
	}()
	network := <-opened
	if network.err != nil {
		t.Skipf("a network namespace with a bridge cannot be made: %v", network.err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			client, err := network.listener.Accept()
			if err != nil {
				return
			}
			relays.Go(func() { s.relay(client) })
		}
	})
	err := <-ended
	_ = network.listener.Close()
	relays.Wait()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
}

// relay carries a connection to the proxy's TLS listener.
func (s *sample) relay(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", s.w.tlsProxy)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, client); _ = server.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(client, server); _ = client.(*net.TCPConn).CloseWrite() })
	both.Wait()
}

// sampleImage makes the files of a build image: it trusts the organization's certificate
// authority, has a home directory that is empty, and changes nothing of this machine.
const sampleImage = `set -e
exec 2>&1
mkdir "$STEP/home" "$STEP/tmp" "$STEP/local" "$STEP/etc" "$STEP/bin"
mv "$STEP/docker" "$STEP/bin/"
bind() { [ ! -e "$2" ] || mount --bind "$1" "$2"; }
printf '127.0.0.1 localhost egress.acme.example\n' >"$STEP/etc/hosts"
sed "s|^\(root:.*:\)/[^:]*:|\1$STEP/home:|" /etc/passwd >"$STEP/etc/passwd"
cat /etc/ssl/certs/ca-certificates.crt "$CA" >"$STEP/etc/ca.crt"
: >"$STEP/etc/resolv.conf"
bind "$STEP/etc/hosts" /etc/hosts
bind "$STEP/etc/passwd" /etc/passwd
bind "$STEP/etc/ca.crt" /etc/ssl/certs/ca-certificates.crt
bind "$STEP/etc/resolv.conf" /etc/resolv.conf
bind "$STEP/local" /usr/local/bin
if [ -e /etc/ssl/certs/java/cacerts ]; then
  cp /etc/ssl/certs/java/cacerts "$STEP/etc/cacerts"
  keytool -importcert -noprompt -alias acme -file "$CA" -keystore "$STEP/etc/cacerts" -storepass changeit >/dev/null 2>&1
  bind "$STEP/etc/cacerts" /etc/ssl/certs/java/cacerts
fi
for directory in /etc/apt/apt.conf.d /etc/chromium /etc/opt; do
  [ -d "$directory" ] || continue
  cp -r "$directory" "$STEP/etc/${directory##*/}"
  bind "$STEP/etc/${directory##*/}" "$directory"
done
clean() {
  (cd "$STEP/clone" && env -i PATH="$STEP/bin:$GO:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$STEP/home" TMPDIR="$STEP/tmp" LANG=C.UTF-8 \
    GOCACHE="$CACHE" NODE_EXTRA_CA_CERTS="$STEP/etc/ca.crt" CI=true \
    BITBUCKET_WORKSPACE=acme BITBUCKET_REPO_SLUG=payments BITBUCKET_REPO_FULL_NAME=acme/payments BITBUCKET_BRANCH=main BITBUCKET_BUILD_NUMBER=1 \
    BITBUCKET_COMMIT=0123456789abcdef0123456789abcdef01234567 BITBUCKET_CLONE_DIR="$STEP/clone" BITBUCKET_STEP_UUID="$STEP_UUID" \
    BITBUCKET_DOCKER_HOST_INTERNAL=172.17.0.1 BITBUCKET_STEP_OIDC_TOKEN="$TOKEN" "$@")
}
status=0
clean bash "$STEP/script.sh" || status=$?
echo "--- after-script"
clean BITBUCKET_EXIT_CODE="$status" bash "$STEP/after.sh"
exit "$status"
`

// sampleDocker is the docker client of the sample's image. No container engine runs there:
// it builds by buildah, and passes the proxies of config.json as build arguments, as the
// docker client does.
const sampleDocker = `#!/usr/bin/python3
import json, os, sys
assert sys.argv[1] == "build", sys.argv
args = ["buildah", "--storage-driver", "vfs", "--root", os.environ["TMPDIR"] + "/images", "--runroot", os.environ["TMPDIR"] + "/images-run", "bud", "--isolation", "chroot", "--http-proxy=false"]
proxies = json.load(open(os.environ["HOME"] + "/.docker/config.json"))["proxies"]["default"]
for key, name in (("httpProxy", "http_proxy"), ("httpsProxy", "https_proxy"), ("noProxy", "no_proxy"), ("allProxy", "all_proxy")):
    if key in proxies:
        args += ["--build-arg", name + "=" + proxies[key], "--build-arg", name.upper() + "=" + proxies[key]]
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
os.execvp("buildah", args + sys.argv[2:])
`
