package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConfined: a worker can open nothing, and has nothing.
func TestConfined(t *testing.T) {
	t.Setenv("SALLYPORT_SECRET", "x")
	inherited, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	if _, err := unix.FcntlInt(inherited.Fd(), unix.F_SETFD, 0); err != nil { // as a careless parent leaves one
		t.Fatal(err)
	}
	keepInherited() // as at the start of a program
	p := pool(t, Config{Workers: 1})
	if said := ask(t, p, "a", "environment"); said != "" {
		t.Error(said)
	}
	pid := p.Processes()[0]
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		to, _ := os.Readlink(filepath.Join(fmt.Sprintf("/proc/%d/fd", pid), fd.Name()))
		if !strings.HasPrefix(to, "pipe:") && !strings.Contains(to, "eventpoll") && !strings.Contains(to, "eventfd") &&
			!strings.HasPrefix(to, "/sys/fs/cgroup/") { // of the Go runtime
			t.Errorf("descriptor %s is %s", fd.Name(), to)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1") {
		t.Errorf("%v\n%s", err, status)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || os.WriteFile("/proc/self/oom_score_adj", own, 0) != nil {
		t.Logf("no process may set its oom_score_adj here: %v", err)
		return
	}
	if score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil || strings.TrimSpace(string(score)) != oomScoreAdjust {
		t.Errorf("the kernel ends it with the score %q: %v", score, err)
	}
}
