package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bench"
)

// otherProxies are proxies that others use, with what they need to do what bare goproxy
// does: no cache, no log. Smokescreen has a list of 200 hosts, and writes a line for each
// tunnel.
var otherProxies = []struct {
	name  string
	start func(t *testing.T, address string) (version string, pid int, err error)
}{
	{"tinyproxy", startTinyproxy},
	{"Squid", startSquid},
	{"Smokescreen", startSmokescreen},
}

// otherLoads are the loads that are measured with other proxies.
var otherLoads = []string{"idle", "connect", "connect1", "connect512", "echo", "echo16", "download", "upload", "get", "get512", "post"}

// otherTargets starts the proxies that this machine has. A missing one is reported and
// omitted.
func otherTargets(t *testing.T, wanted func(string) bool) (list []*bench.Target) {
	t.Helper()
	for _, p := range otherProxies {
		if !wanted(p.name) {
			continue
		}
		address := freeAddress(t)
		version, pid, err := p.start(t, address)
		if err != nil {
			t.Logf("%s is omitted: %v", p.name, err)
			continue
		}
		list = append(list, &bench.Target{Name: p.name, Version: version, Proxy: address, Processes: func() []int { return []int{pid} }, Loads: otherLoads})
	}
	return list
}

func isOtherProxy(name string) bool {
	for _, p := range otherProxies {
		if p.name == name {
			return true
		}
	}
	return false
}

func startTinyproxy(t *testing.T, address string) (version string, pid int, err error) {
	t.Helper()
	program, version, err := installed("tinyproxy", "-v")
	if err != nil {
		return "", 0, err
	}
	host, port, _ := net.SplitHostPort(address)
	config := writeBenchFile(t, "tinyproxy.conf", fmt.Sprintf("Listen %s\nPort %s\nTimeout 600\nMaxClients 20000\nLogLevel Critical\nDisableViaHeader Yes\n", host, port))
	return version, startProxy(t, address, nil, program, "-d", "-c", config), nil
}

func startSquid(t *testing.T, address string) (version string, pid int, err error) {
	t.Helper()
	program, version, err := installed("squid", "-v")
	if err != nil {
		return "", 0, err
	}
	config := writeBenchFile(t, "squid.conf", fmt.Sprintf(`http_port %s
http_access allow all
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
coredump_dir /
max_filedescriptors 65536
via off
forwarded_for delete
shutdown_lifetime 0 seconds
`, address))
	return version, startProxy(t, address, nil, program, "-N", "-f", config), nil
}

// smokescreenVersion is the version that is built with `go install`.
const smokescreenVersion = "v0.1.0"

func startSmokescreen(t *testing.T, address string) (version string, pid int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	directory := t.TempDir()
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/stripe/smokescreen@"+smokescreenVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+directory, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", 0, fmt.Errorf("%s: %w: %s", cmd, err, tail(string(out)))
	}
	hosts := []string{"127.0.0.1"}
	for i := range 199 {
		hosts = append(hosts, fmt.Sprintf("host%03d.partner.example", i))
	}
	list := writeBenchFile(t, "acl.yaml", "version: v1\nservices: []\ndefault:\n  project: bench\n  action: enforce\n  allowed_domains: ["+strings.Join(hosts, ", ")+"]\n")
	config := writeBenchFile(t, "smokescreen.yaml", "allow_missing_role: true\n")
	host, port, _ := net.SplitHostPort(address)
	pid = startProxy(t, address, nil, filepath.Join(directory, "smokescreen"), "--config-file", config, "--listen-ip", host, "--listen-port", port,
		"--allow-range", "127.0.0.0/8", "--egress-acl-file", list)
	return smokescreenVersion, pid, nil
}

// installed finds a program of this machine, and its version.
func installed(name, flag string) (program, version string, err error) {
	if program, err = exec.LookPath(name); err != nil {
		program = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(program); err != nil {
			return "", "", errors.New("it is not installed")
		}
	}
	out, err := exec.Command(program, flag).Output()
	if err != nil {
		return "", "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return program, "unknown", nil
	}
	return program, fields[len(fields)-1], nil
}

func writeBenchFile(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
