package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFollowerUnit: the follower is confined as the server is, has a login of its
// own, and systemd-analyze, where it is installed, reports no fault.
func TestFollowerUnit(t *testing.T) {
	const name = "systemd/sallyport-follow.service"
	follower, server := directives(t, name), directives(t, "systemd/sallyport.service")
	for key, values := range server {
		confines := strings.HasPrefix(key, "Protect") || strings.HasPrefix(key, "Private") || strings.HasPrefix(key, "Restrict") || strings.HasPrefix(key, "SystemCall") ||
			key == "NoNewPrivileges" || key == "CapabilityBoundingSet" || key == "MemoryDenyWriteExecute" || key == "LockPersonality" || key == "LimitCORE"
		// The follower lists no interfaces and has no policy workers.
		want := strings.TrimSuffix(strings.TrimSuffix(strings.Join(values, " "), " AF_NETLINK"), " setpriority")
		if confines && strings.Join(follower[key], " ") != want {
			t.Errorf("%s is %q, want %q", key, follower[key], want)
		}
	}
	if follower["User"][0] == server["User"][0] || follower["Restart"][0] != "on-failure" {
		t.Errorf("user %s, restart %s", follower["User"], follower["Restart"])
	}
	for _, c := range follower["LoadCredential"] {
		if id, from, _ := strings.Cut(c, ":"); from != "/etc/sallyport/"+id || !strings.Contains(follower["ExecStart"][0], "%d/"+id) {
			t.Errorf("the credential %s is not the one that is read", c)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not installed: the unit was read by this test alone")
		return
	}
	unit := filepath.Join(t.TempDir(), "sallyport-follow.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(read(t, name), "/usr/local/bin/sallyport", "/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
