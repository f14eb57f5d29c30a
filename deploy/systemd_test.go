package deploy_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// directives are a unit file's settings, in order.
func directives(t *testing.T, name string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	section := ""
	lines := bufio.NewScanner(strings.NewReader(read(t, name)))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section == "" {
			t.Fatalf("%s:%d: no directive: %s", name, n, line)
		}
		all[key] = append(all[key], value)
	}
	return all
}

// TestUnits: the socket fits the configuration, the service has what confines it,
// and systemd-analyze, where it is installed, reports no fault in either.
func TestUnits(t *testing.T) {
	service, socket := directives(t, "systemd/sallyport.service"), directives(t, "systemd/sallyport.socket")
	for key, want := range map[string]string{
		"Type": "notify", "User": "sallyport", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
		"CapabilityBoundingSet": "", "StateDirectory": "sallyport", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
		"MemoryDenyWriteExecute": "yes", "Sockets": "sallyport.socket", "LimitCORE": "0",
		"Restart": "on-failure", "StartLimitIntervalSec": "0", "OOMPolicy": "continue",
	} {
		if got := service[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	text := read(t, "systemd/sallyport.yaml")
	for _, found := range regexp.MustCompile(`address: "([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(socket["ListenStream"], strings.TrimPrefix(found[1], ":")) {
			t.Errorf("the socket has no ListenStream=%s", found[1])
		}
	}
	credentials := map[string]bool{}
	for _, c := range service["LoadCredential"] {
		id, from, _ := strings.Cut(c, ":")
		if from != "/etc/sallyport/"+id {
			t.Errorf("credential %s comes from %s: a path in the configuration means two things", id, from)
		}
		credentials[id] = true
	}
	for _, found := range regexp.MustCompile(`_file: ([a-z.-]+)`).FindAllStringSubmatch(text, -1) {
		if wanted := found[1] != "migration-url"; credentials[found[1]] != wanted {
			t.Errorf("credential %s: %v, want %v", found[1], credentials[found[1]], wanted)
		}
	}
	// Behind the drain, the last close events are recorded.
	drain := regexp.MustCompile(`drain_timeout: (\w+)`).FindStringSubmatch(text)[1]
	if stop, drained := duration(t, service["TimeoutStopSec"][0]), duration(t, drain); stop < drained+40*time.Second {
		t.Errorf("TimeoutStopSec=%s, and the drain takes up to %s", stop, drained)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the units were read by this test alone")
		return
	}
	verify(t, analyze)
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func verify(t *testing.T, analyze string) {
	t.Helper()
	directory := t.TempDir()
	for _, name := range []string{"sallyport.service", "sallyport.socket"} {
		// It looks for the program, which is not installed.
		text := strings.ReplaceAll(read(t, filepath.Join("systemd", name)), "/usr/local/bin/sallyport", "/bin/true")
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", filepath.Join(directory, "sallyport.service"), filepath.Join(directory, "sallyport.socket"))
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), directory) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	cmd = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20", filepath.Join(directory, "sallyport.service"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
