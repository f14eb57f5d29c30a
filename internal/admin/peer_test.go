package admin

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// asAnother names the data directory where this program is to be a client alone.
const asAnother = "SALLYPORT_TEST_CONTROL"

func TestMain(m *testing.M) {
	if directory := os.Getenv(asAnother); directory != "" {
		_, err := NewControlClient(directory).EmergencyStop(context.Background(), StopRequest{})
		fmt.Println(err)
		return
	}
	goleak.VerifyTestMain(m)
}

// TestAnotherUser: another user is refused by the socket's mode, with an error that
// names who may; and if the mode was changed, by the kernel's credentials.
func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can become another user
	}
	d, directory := office(t)
	program := filepath.Join(directory, "client")
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(own)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{filepath.Dir(directory), directory} {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid uint32) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), asAnother+"="+directory)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if said := as(65534); !strings.Contains(said, "only root may control") {
		t.Errorf("by the mode: %q", said)
	}
	if err := os.Chmod(ControlPath(directory), 0o666); err != nil {
		t.Fatal(err)
	}
	if said := as(65534); !strings.Contains(said, "uid 65534) may not") && !strings.Contains(said, "uid 65534 may not") {
		t.Errorf("by the kernel's word: %q", said)
	}
	if did := d.did(); len(did) != 0 {
		t.Errorf("it did %v", did)
	}
	if said := as(0); !strings.Contains(said, "<nil>") || len(d.did()) != 1 {
		t.Errorf("root: %q, did %v", said, d.did())
	}
}
