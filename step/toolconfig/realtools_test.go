package toolconfig

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a proxy that refuses every request and records its target.
type recorder struct {
	mu      sync.Mutex
	targets []string
	server  *httptest.Server
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.targets = append(r.targets, req.Method+" "+req.RequestURI)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *recorder) address() netip.AddrPort {
	return netip.MustParseAddrPort(r.server.Listener.Addr().String())
}

func (r *recorder) saw(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.targets, func(target string) bool { return strings.Contains(target, part) })
}

// javaProbe prints the proxies that Java selects, and a property of a file.
const javaProbe = `
import java.net.*;
import java.util.*;
public class Probe {
	public static void main(String[] args) throws Exception {
		for (String u : new String[]{"https://t.example/", "http://t.example/", "http://localhost:1/", "https://x.svc/"})
			for (Proxy p : ProxySelector.getDefault().select(URI.create(u)))
				System.out.println(u + " " + (p.address() instanceof InetSocketAddress a ? a.getHostString() + ":" + a.getPort() : p.type()));
		Properties p = new Properties();
		p.load(new java.io.FileInputStream(args[0]));
		System.out.println(p);
	}
}
`

// realTool is one run of an installed program with the variables and files of start.
type realTool struct {
	name, program string
	args          []string
	sees          string   // part of a request line at the proxy; "": none may arrive
	prints        []string // parts of the output
}

// TestRealTools: the installed programs read what start sets.
func TestRealTools(t *testing.T) {
	t.Parallel()
	for _, c := range []realTool{
		{"curl https", "curl", []string{"-s", "https://t.example/"}, "CONNECT t.example:443", nil},
		{"curl http", "curl", []string{"-s", "http://t.example/"}, "GET http://t.example/", nil},
		{"curl ftp", "curl", []string{"-s", "ftp://t.example/"}, "t.example", nil},
		{"curl Bitbucket's proxy", "curl", []string{"-s", "http://localhost:1/", "http://127.0.0.1:1/"}, "", nil},
		{"wget", "wget", []string{"-q", "-t", "1", "-O", "-", "https://t.example/"}, "CONNECT t.example:443", nil},
		{"git", "git", []string{"ls-remote", "https://t.example/x.git"}, "CONNECT t.example:443", nil},
		{"npm", "npm", []string{"config", "get", "https-proxy"}, "", []string{"{proxy}"}},
		{"npm proxy", "npm", []string{"view", "left-pad", "--fetch-retries=0", "--registry=https://t.example/"}, "CONNECT t.example:443", nil},
		{"pip", "pip", []string{"download", "--retries", "0", "--no-cache-dir", "--disable-pip-version-check", "--index-url", "https://t.example/simple", "x"}, "CONNECT t.example:443", nil},
		{"cargo", "cargo", []string{"search", "x"}, "CONNECT ", nil},
		{"java", "java", []string{"{home}/Probe.java", "{home}/.gradle/gradle.properties"}, "", []string{
			"https://t.example/ 127.0.0.1:{port}", "http://t.example/ 127.0.0.1:{port}", "http://localhost:1/ DIRECT", "https://x.svc/ DIRECT",
			"systemProp.https.proxyPort={port}", "systemProp.http.proxyHost=127.0.0.1", "org.gradle.daemon=false",
		}},
		{"maven", "mvn", []string{"-B", "-Dmaven.wagon.http.retryHandler.count=0", "dependency:get", "-Dartifact=a:b:1"}, "CONNECT repo.", nil},
		{"apt", "apt-config", []string{"dump", "Acquire"}, "", []string{
			`Acquire::http::Proxy "{proxy}";`, `Acquire::https::Proxy "{proxy}";`, `Acquire::http::Proxy::host.docker.internal "DIRECT";`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t)
		})
	}
}

func (c realTool) run(t *testing.T) {
	if _, err := exec.LookPath(c.program); err != nil {
		t.Skipf("%s is not installed", c.program)
	}
	proxy := newRecorder(t)
	s := testSettings(t, map[string]string{"NO_PROXY": ".svc"})
	s.Forwarder = proxy.address()
	write(t, filepath.Join(s.Home, ".gradle/gradle.properties"), "org.gradle.daemon=false\\", 0o600)
	write(t, filepath.Join(s.Home, ".npmrc"), "https-proxy=http://127.0.0.1:1/\nproxy=http://127.0.0.1:1/\n", 0o600)
	write(t, filepath.Join(s.Home, "Probe.java"), javaProbe, 0o600)
	write(t, filepath.Join(s.Home, "apt.conf"), "Dir \""+s.Root+"\";\n", 0o600)
	if problems := apply(t, open(t, t.TempDir()), s); len(problems) > 0 {
		t.Fatal(problems)
	}
	fill := strings.NewReplacer("{home}", s.Home, "{root}", s.Root, "{proxy}", s.proxyURL(), "{port}", strings.TrimPrefix(s.proxyURL(), "http://127.0.0.1:"))
	var args []string
	for _, arg := range c.args {
		args = append(args, fill.Replace(arg))
	}
	out := runTool(t, s, c.program, args...)
	for _, want := range c.prints {
		if want = fill.Replace(want); !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	switch {
	case c.sees != "" && !proxy.saw(c.sees):
		t.Errorf("the proxy saw %v, want %q: %s", proxy.targets, c.sees, out)
	case c.sees == "" && len(proxy.targets) > 0:
		t.Errorf("the proxy saw %v", proxy.targets)
	}
}

// runTool runs a program in the home of the settings, with their variables only.
func runTool(t *testing.T, s Settings, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.Home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Home, "MAVEN_OPTS=-Duser.home=" + s.Home, "CARGO_NET_RETRY=0", "GIT_TERMINAL_PROMPT=0", "APT_CONFIG=" + filepath.Join(s.Home, "apt.conf"),
		"RUSTUP_HOME=" + filepath.Join(os.Getenv("HOME"), ".rustup"), "PYENV_ROOT=" + os.Getenv("PYENV_ROOT"),
	}
	for _, v := range Variables(Tools, s) {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s did not end: %s", program, out)
	}
	t.Logf("%s %q: %v", program, args, err) // the proxy refuses: most end with an error
	return string(out[:min(len(out), 8<<10)])
}

// TestGitKeepsBitbucketsProxy: git sends requests for Bitbucket's origin to Bitbucket's own
// proxy, and others to the forwarder. A proxy for every URL, which start does not set,
// would be used before the variables.
func TestGitKeepsBitbucketsProxy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	forwarder, bitbucket := newRecorder(t), newRecorder(t)
	s := testSettings(t, nil)
	s.Forwarder = forwarder.address()
	runTool(t, s, "git", "config", "--global", "http.http://bitbucket.example/.proxy", bitbucket.server.URL)
	if problems := apply(t, open(t, t.TempDir()), s); len(problems) > 0 {
		t.Fatal(problems)
	}
	runTool(t, s, "git", "ls-remote", "http://bitbucket.example/acme/app.git")
	runTool(t, s, "git", "ls-remote", "http://other.example/acme/app.git")
	if !bitbucket.saw("bitbucket.example") || forwarder.saw("bitbucket.example") || !forwarder.saw("other.example") || bitbucket.saw("other.example") {
		t.Errorf("Bitbucket's proxy saw %v, the forwarder %v", bitbucket.targets, forwarder.targets)
	}
}
