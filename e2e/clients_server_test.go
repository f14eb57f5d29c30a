package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/clientmatrix"
	"github.com/sallyport/sallyport/internal/pgtest"
)

const clientTools = "../bin/clients/bin" // where make clients-needs installs

// clientPolicy has one rule for each zone.
const clientPolicy = `package sallyport.egress

allow contains {"rule": "clients"} if endswith(input.target.host, ".allowed.example")
allow contains {"rule": "raw", "protocol": "any"} if endswith(input.target.host, ".raw.example")

allow contains {"rule": "browsers", "ech": true} if endswith(input.target.host, ".ech.example")

# acme/website is only observed.
report contains {"rule": "website-observed"} if input.principal.repository.full_name == "acme/website"
`

// clientMatrix is a server and an upstream for real clients.
type clientMatrix struct {
	w         *fixture
	upstream  *clientmatrix.Upstream
	directory string // of all rows; other users can read it, as apt's has to
	authority string // a PEM file
	ports     map[clientmatrix.Port]int
	extraEnv  []string
	toolsOf   *clientMatrix // nil: it has its own
	isolated  bool          // rows have files of their own below /etc
	without   string        // options of sallyport-step start that leave these files out
	processes *processWatch
	// setup and teardown are the shell lines of each way.
	setup, teardown map[clientmatrix.Way]string
}

// newClientMatrix starts a server with both listeners, and the upstream. It shares the
// programs of another matrix, if there is one.
func newClientMatrix(t *testing.T, toolsOf *clientMatrix) *clientMatrix {
	t.Helper()
	m := &clientMatrix{ports: make(map[clientmatrix.Port]int), toolsOf: toolsOf}
	m.w = newFixture(t, options{
		program: released(t), tls: true, identity: "  leeway: 1s\n",
		// All clients come from one address.
		extra: "limits: {recorded_refusals_per_second: 1000}\nshutdown: {drain_timeout: 5s}\n",
	})
	if err := errors.Join(os.RemoveAll(m.w.policy), os.MkdirAll(m.w.policy+"/egress", 0o755),
		os.WriteFile(m.w.policy+"/egress/clients.rego", []byte(clientPolicy), 0o644)); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.directory, err = os.MkdirTemp("", "clients-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !*keepRows {
			_ = os.RemoveAll(m.directory)
		}
	})
	m.processes = watchProcesses(t)
	content := clientmatrix.Content(gitBackend(t), m.debianPackage(t))
	if m.upstream, err = clientmatrix.StartUpstream(m.w.Certificate, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.processes.scan() // the client is certainly running
		content.ServeHTTP(w, r)
	})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.upstream.Close)
	m.authority = filepath.Join(m.directory, "ca.pem")
	pem, err := os.ReadFile(m.w.CAFile)
	if err := errors.Join(err, os.Chmod(m.directory, 0o755), os.WriteFile(m.authority, pem, 0o644)); err != nil {
		t.Fatal(err)
	}
	m.w.start()
	if m.isolated = os.Getuid() == 0; !m.isolated {
		m.without = " --without maven,gradle"
	}
	m.buildTools(t)
	m.prepareWays(t)
	return m
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)+`)

// debianPackage is a package for apt, where dpkg-deb is installed.
func (m *clientMatrix) debianPackage(t testing.TB) []byte {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		return nil
	}
	root := filepath.Join(t.TempDir(), "left-wall")
	control := "Package: left-wall\nVersion: 1.0\nArchitecture: all\nMaintainer: Acme <builds@acme.example>\nDescription: a wall\n"
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "DEBIAN"), 0o755), os.WriteFile(filepath.Join(root, "DEBIAN", "control"), []byte(control), 0o644)); err != nil {
		t.Fatal(err)
	}
	if code, _, output := execute(t, exec.Command("dpkg-deb", "--build", "--root-owner-group", root, root+".deb")); code != 0 {
		t.Fatal(output)
	}
	deb, err := os.ReadFile(root + ".deb")
	if err != nil {
		t.Fatal(err)
	}
	return deb
}

// prepareWays writes what a step does to use the proxy: as docs/pipelines.md has it.
func (m *clientMatrix) prepareWays(t testing.TB) {
	t.Helper()
	exports := func(scheme, address string) string {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`export PROXY="%s://step:$BITBUCKET_STEP_OIDC_TOKEN@%s"
export HTTPS_PROXY="$PROXY" https_proxy="$PROXY" HTTP_PROXY="$PROXY" http_proxy="$PROXY" NO_PROXY="localhost,127.0.0.1" no_proxy="localhost,127.0.0.1"
export GIT_HTTP_PROXY_AUTHMETHOD=basic PROXY_HOST=%s PROXY_PORT=%s`, scheme, address, host, port)
	}
	m.setup = map[clientmatrix.Way]string{
		clientmatrix.Plain: exports("http", m.w.proxy),
		clientmatrix.TLS:   exports("https", m.w.tlsProxy),
	}
	// Without the variable, no later process has the token, and no crash dump either.
	m.setup[clientmatrix.Step] = `eval "$(sallyport-step start --proxy "https://` + m.w.tlsProxy + `" --ca-file "$CA"` + m.without + ` $START || echo false)" || exit 91
PROXY=$HTTPS_PROXY; PROXY_PORT=${PROXY##*:}; PROXY_HOST=${PROXY#*://}; PROXY_HOST=${PROXY_HOST%:*}
export PROXY PROXY_HOST PROXY_PORT`
	m.teardown = map[clientmatrix.Way]string{clientmatrix.Step: `eval "$(sallyport-step stop)" || status=92`}
}

// environment is what all rows have: a clean one, with the programs of this machine.
func (m *clientMatrix) environment() []string {
	path := []string{m.tools()}
	if tools, err := filepath.Abs(clientTools); err == nil {
		path = append(path, tools)
	}
	for _, program := range []string{"go", "cargo"} {
		if found, err := exec.LookPath(program); err == nil {
			path = append(path, filepath.Dir(found))
		}
	}
	env := []string{"PATH=" + strings.Join(append(path, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ":"), "LANG=C.UTF-8"}
	if tools, err := filepath.Abs(clientTools + "/../node_modules"); err == nil {
		env = append(env, "NODE_PATH="+tools)
	}
	if home, err := os.UserHomeDir(); err == nil { // cargo is rustup's
		env = append(env, "RUSTUP_HOME="+home+"/.rustup")
	}
	return append(env, m.extraEnv...)
}

// tools is the directory of the programs that the test builds or names.
func (m *clientMatrix) tools() string {
	if m.toolsOf != nil {
		return m.toolsOf.tools()
	}
	return filepath.Join(m.directory, "bin")
}

// buildTools builds the programs that need nothing but this repository, and names the
// machine's Node.js by its version.
func (m *clientMatrix) buildTools(t testing.TB) {
	t.Helper()
	if m.toolsOf != nil {
		return
	}
	for _, program := range [][]string{{"-C", "../tools/clients", "./httpget"}, {"-C", "../cmd/sallyport-step", "."}} {
		cmd := exec.Command("go", "build", program[0], program[1], "-buildvcs=false", "-o", m.tools()+"/", program[2])
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if code, _, output := execute(t, cmd); code != 0 {
			t.Fatal(output)
		}
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return
	}
	if _, version, _ := execute(t, exec.Command(node, "--version")); strings.HasPrefix(version, "v20.") {
		if err := os.Symlink(node, filepath.Join(m.tools(), "node20")); err != nil {
			t.Fatal(err)
		}
	}
}

// missing is the first program or library of a client that is not there.
func (m *clientMatrix) missing(t testing.TB, client *clientmatrix.Client) string {
	t.Helper()
	for _, need := range client.Needs {
		command := `command -v "$0"`
		program, library, isLibrary := strings.Cut(need, ":")
		if isLibrary {
			command = `"$0" -c "import $1"`
		}
		if program == "axios" {
			command = `node20 -e 'require("axios")'`
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", command, program, library)
		cmd.Env = m.environment()
		if code, _, _ := execute(t, cmd); code != 0 {
			return need
		}
	}
	return ""
}

// version is the version that a client reports.
func (m *clientMatrix) version(t testing.TB, client *clientmatrix.Client) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", client.Version)
	cmd.Env = append(m.environment(), "HOME="+t.TempDir())
	code, out, output := execute(t, cmd)
	if code != 0 {
		return ""
	}
	for line := range strings.Lines(out + output) {
		if found := versionPattern.FindString(line); found != "" {
			return found
		}
	}
	return ""
}

// openSSH serves a repository over ssh; it sets what the client needs.
func (m *clientMatrix) openSSH(t testing.TB) {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return
	}
	directory := filepath.Join(m.directory, "ssh")
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(directory, 0o700))
	run := func(name string, args ...string) {
		if code, _, output := execute(t, exec.Command(name, args...)); code != 0 {
			t.Fatalf("%s %q: %s", name, args, output)
		}
	}
	for _, key := range []string{"host", "client"} {
		run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(directory, key))
	}
	repository := filepath.Join(directory, "library.git")
	run("git", "init", "--quiet", "--initial-branch=main", directory+"/work")
	run("git", "-C", directory+"/work", "-c", "user.email=a@acme.example", "-c", "user.name=A", "commit", "--quiet", "--allow-empty", "--message", "the first one")
	run("git", "clone", "--quiet", "--bare", directory+"/work", repository)
	server, port, err := net.SplitHostPort(freeAddress(t))
	must(err)
	config := filepath.Join(directory, "config")
	must(os.WriteFile(config, fmt.Appendf(nil, "ListenAddress %s\nPort %s\nHostKey %s/host\nAuthorizedKeysFile %s/client.pub\nPidFile none\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nUsePAM no\n",
		server, port, directory, directory), 0o600))
	must(os.MkdirAll("/run/sshd", 0o755)) // as root; sshd of another user does not need it
	cmd := exec.Command(sshd, "-D", "-e", "-f", config)
	must(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m.ports[clientmatrix.SSH], err = m.upstream.Relay(func() (net.Conn, error) { return net.Dial("tcp", net.JoinHostPort(server, port)) })
	must(err)
	eventually(t, "sshd listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(server, port))
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	user, err := exec.Command("id", "-un").Output()
	must(err)
	m.extraEnv = append(m.extraEnv, "SSH_KEY="+directory+"/client", "SSH_REPOSITORY="+repository, "SSH_USER="+strings.TrimSpace(string(user)))
}

// openPostgreSQL gives the tests' PostgreSQL a port.
func (m *clientMatrix) openPostgreSQL(t testing.TB) {
	t.Helper()
	socket := filepath.Join(pgtest.Shared(t).SocketDirectory(), ".s.PGSQL.5432")
	var err error
	if m.ports[clientmatrix.PostgreSQL], err = m.upstream.Relay(func() (net.Conn, error) { return net.Dial("unix", socket) }); err != nil {
		t.Fatal(err)
	}
}

// attempts are the refusals of a host in the audit log, and how many of them are of
// the same CONNECT target or the same method and path.
func (m *clientMatrix) attempts(t testing.TB, host string) (all, same int) {
	t.Helper()
	for _, row := range m.w.query(t, `SELECT count(*) AS n FROM audit.decisions WHERE host = $1 AND verdict = 'deny' GROUP BY action, method, path`, host) {
		n, err := strconv.Atoi(fmt.Sprint(row["n"]))
		if err != nil {
			t.Fatal(err)
		}
		all, same = all+n, max(same, n)
	}
	return all, same
}

// rejects waits until the proxy does not accept a row's token any more.
func (m *clientMatrix) rejects(t testing.TB, r *clientRow) {
	t.Helper()
	<-time.After(time.Until(r.expiry.Add(time.Second)))
	eventually(t, "the token is expired", func() bool {
		conn, err := net.Dial("tcp", m.w.proxy)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		a := sendRawOn(t, conn, connectTo("probe."+string(clientmatrix.Allowed)+":443", "Bearer "+r.caller.token))
		return a.StatusCode == http.StatusProxyAuthRequired
	})
}

// restartProxy stops the server, lets release run when it does not accept connections
// any more, and starts it again when its tunnels have ended.
func (m *clientMatrix) restartProxy(t testing.TB, release func()) {
	t.Helper()
	m.w.signal(syscall.SIGTERM)
	for _, address := range []string{m.w.proxy, m.w.tlsProxy} {
		eventually(t, "nothing is accepted", func() bool {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return true
			}
			_ = conn.Close()
			return false
		})
	}
	release()
	m.w.await(0)
	m.w.restart()
}
