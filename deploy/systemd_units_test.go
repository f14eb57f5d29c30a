package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOtherUnits: the follower and the webhook agent are confined as the server is, have
// users of their own, and systemd-analyze, where it is installed, reports no fault.
func TestOtherUnits(t *testing.T) {
	for _, name := range []string{"sallyport-follow.service", "sallyport-webhook-agent.service"} {
		t.Run(name, func(t *testing.T) { testOtherUnit(t, filepath.Join("systemd", name)) })
	}
}

func testOtherUnit(t *testing.T, name string) {
	unit, server := directives(t, name), directives(t, "systemd/sallyport.service")
	for key, values := range server {
		confines := strings.HasPrefix(key, "Protect") || strings.HasPrefix(key, "Private") || strings.HasPrefix(key, "Restrict") || strings.HasPrefix(key, "SystemCall") ||
			key == "NoNewPrivileges" || key == "CapabilityBoundingSet" || key == "MemoryDenyWriteExecute" || key == "LockPersonality" || key == "LimitCORE"
		// They list no interfaces and have no policy workers.
		want := strings.TrimSuffix(strings.TrimSuffix(strings.Join(values, " "), " AF_NETLINK"), " setpriority")
		if confines && strings.Join(unit[key], " ") != want {
			t.Errorf("%s is %q, want %q", key, unit[key], want)
		}
	}
	if unit["User"][0] == server["User"][0] || unit["Restart"][0] != "on-failure" {
		t.Errorf("user %s, restart %s", unit["User"], unit["Restart"])
	}
	for _, c := range unit["LoadCredential"] {
		if id, from, _ := strings.Cut(c, ":"); from != "/etc/sallyport/"+id || !strings.Contains(unit["ExecStart"][0], "%d/"+id) {
			t.Errorf("the credential %s is not the one that is read", c)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the unit was read by this test alone")
		return
	}
	file := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(read(t, name), "/usr/local/bin/sallyport", "/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || strings.Contains(string(out), file) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20", file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
