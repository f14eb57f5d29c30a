package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestControlByAnotherUser: a command that uses the control socket names the users who may, for a
// user who may not, whether or not that user can see the control socket.
func TestControlByAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	const nobody = 65534
	w := newFixture(t, options{})
	w.start()
	// What the other user needs: the program, and a configuration without secrets.
	folder, err := os.MkdirTemp("/tmp", "sallyport-other-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	program, err := os.ReadFile(released(t))
	if err != nil {
		t.Fatal(err)
	}
	configuration, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"sallyport": program, "sallyport.yaml": configuration} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tunnels", "list"}, {"token", "revocations"}, {"policy", "reload"}, {"emergency-stop", "--reason", "x"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(folder, "sallyport"), append(args, "-c", filepath.Join(folder, "sallyport.yaml"))...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = "/"
		code, out, errOut := execute(t, cmd)
		if code != 1 || !strings.Contains(errOut, "may control this instance") || !strings.Contains(errOut, "root") || out != "" {
			t.Errorf("%v by another user: %d %s%s", args, code, out, errOut)
		}
	}
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched") // nothing was stopped
}
