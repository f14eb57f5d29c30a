package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// mainVariable makes the test binary the program.
const mainVariable = "SALLYPORT_STEP_TEST_MAIN"

// withoutOpening makes it the program whose first action is not the opening of the script.
const withoutOpening = "without opening"

func TestMain(m *testing.M) {
	switch os.Getenv(mainVariable) {
	case "":
	case withoutOpening:
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	default:
		main()
	}
	os.Exit(m.Run())
}

// testToken is the token that the servers accept.
const testToken = "eyJhbGciOiJSUzI1NiJ9.c3RlcC10b2tlbi1vZi1zYWxseXBvcnQtc3RlcA.c2lnbmF0dXJl"

// sallyport is a listener that behaves as Sallyport's. Every allowed target is the
// origin.
type sallyport struct {
	url, caFile string
	origin      *httptest.Server

	mu      sync.Mutex
	hold    chan struct{} // GET /step waits for it; nil: does not wait
	asked   chan struct{} // receives for each GET /step
	targets []string
	checks  int    // recorded network checks
	target  string // where every allowed target is
}

func newSallyport(t *testing.T) *sallyport {
	t.Helper()
	s := &sallyport{asked: make(chan struct{}, 100)}
	s.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "origin %s authorization=%q proxy=%q", r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(s.origin.Close)
	s.target = s.origin.Listener.Addr().String()
	server := httptest.NewUnstartedServer(s)
	server.EnableHTTP2 = false
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that were kept ready
	server.StartTLS()
	t.Cleanup(server.Close)
	s.url = server.URL
	s.caFile = filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(s.caFile, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sallyport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, reason string) {
		w.Header().Set("Sallyport-Reason", reason)
		w.Header().Set("Sallyport-Decision", "01a1fdf4-c192-7cf7-900b-49ceb24f5238")
		w.WriteHeader(status)
		fmt.Fprintf(w, "sallyport: %s: the test refuses it (decision 01a1fdf4-c192-7cf7-900b-49ceb24f5238). What to do: nothing.\n", reason)
	}
	switch {
	case r.Header.Get("Proxy-Authorization") != "Bearer "+testToken:
		refuse(http.StatusUnauthorized, "credential_invalid")
	case r.Method == http.MethodConnect && strings.HasPrefix(r.Host, "denied."):
		refuse(http.StatusForbidden, "no_rule_matched")
	case r.Method == http.MethodConnect:
		s.tunnel(w, r)
	case r.URL.Path == stepapi.PathNetworkCheck:
		s.mu.Lock()
		s.checks++
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == stepapi.PathStep && r.URL.Query().Has(stepapi.ParameterTo):
		var e stepapi.Evaluations
		for _, target := range r.URL.Query()[stepapi.ParameterTo] {
			verdict := stepapi.Evaluation{Target: target, Verdict: stepapi.VerdictAllow, Reason: "policy_allowed"}
			if strings.HasPrefix(target, "denied.") {
				verdict.Verdict, verdict.Reason = stepapi.VerdictDeny, "no_rule_matched"
			}
			e.Evaluations = append(e.Evaluations, verdict)
		}
		_ = json.NewEncoder(w).Encode(e)
	case r.URL.Path == stepapi.PathStep:
		s.mu.Lock()
		hold := s.hold
		s.mu.Unlock()
		s.asked <- struct{}{}
		if hold != nil {
			<-hold
		}
		_ = json.NewEncoder(w).Encode(stepapi.Step{Mode: stepapi.ModeEnforce, Principal: stepapi.Principal{Repository: "acme/app"}})
	default:
		refuse(http.StatusForbidden, "no_rule_matched")
	}
}

func (s *sallyport) tunnel(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.targets = append(s.targets, r.Host)
	s.mu.Unlock()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	target, err := net.Dial("tcp", s.target)
	if err != nil {
		return
	}
	defer target.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connected\r\nSallyport-Decision: x\r\n\r\n")
	go func() {
		_, _ = io.Copy(target, client)
		_ = target.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, target)
}

// step is a build step: a home, a directory for temporary files, and a shell.
type step struct {
	t     *testing.T
	shell []string
	home  string
	tmp   string
	env   []string
	bin   string
}

// shells are the shells of build images.
var shells = [][]string{{"dash"}, {"bash"}, {"busybox", "ash"}}

// eachShell runs a test in a step of each installed shell.
func eachShell(t *testing.T, test func(t *testing.T, s *step)) {
	t.Helper()
	for _, shell := range shells {
		if _, err := exec.LookPath(shell[0]); err == nil {
			t.Run(shell[0], func(t *testing.T) {
				t.Parallel()
				test(t, newStep(t, shell...))
			})
		}
	}
}

func newStep(t *testing.T, shell ...string) *step {
	t.Helper()
	tmp, err := os.MkdirTemp("", "st") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	s := &step{t: t, shell: shell, home: filepath.Join(tmp, "home"), tmp: filepath.Join(tmp, "tmp"), bin: filepath.Join(tmp, "bin")}
	for _, dir := range []string{s.home, s.tmp, s.bin} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(own, filepath.Join(s.bin, "sallyport-step")); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "HOME=" + s.home, "TMPDIR=" + s.tmp, mainVariable + "=1", defaultTokenVariable + "=" + testToken, "GRADLE_USER_HOME=" + filepath.Join(s.home, ".gradle")}
	return s
}

// run runs a script. The forwarder inherits standard error, so both outputs are files: a
// pipe would be open until the forwarder ends.
func (s *step) run(script string) (stdout, stderr string, status int) {
	s.t.Helper()
	dir := s.t.TempDir()
	cmd, out, errOut := s.command(dir, script)
	s.redirect(cmd, out, errOut)
	_ = cmd.Run()
	return s.read(out), s.read(errOut), cmd.ProcessState.ExitCode()
}

func (s *step) command(dir, script string) (cmd *exec.Cmd, out, errOut string) {
	s.t.Helper()
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	s.t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, s.shell[0], append(s.shell[1:], file)...)
	cmd.Env = s.env
	cmd.Dir = s.home
	out, errOut = filepath.Join(dir, "out"), filepath.Join(dir, "err")
	return cmd, out, errOut
}

// redirect makes both outputs files.
func (s *step) redirect(cmd *exec.Cmd, out, errOut string) {
	s.t.Helper()
	for name, to := range map[string]*io.Writer{out: &cmd.Stdout, errOut: &cmd.Stderr} {
		f, err := os.Create(name)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = f.Close() })
		*to = f
	}
}

func (s *step) read(path string) string {
	s.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// start is the line of a script that starts the forwarder. Tools with files in /etc are
// left out: the tests may run as root.
func start(p *sallyport, flags string) string {
	return `eval "$(sallyport-step start --without apt,chromium,maven --ca-file ` + p.caFile + ` --proxy ` + p.url + " " + flags + `)"` + "\n"
}
