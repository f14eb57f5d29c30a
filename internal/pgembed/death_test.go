package pgembed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// helperVariable makes the test binary run a server and wait to be killed.
const helperVariable = "PGEMBED_TEST_SERVE"

func TestMain(m *testing.M) {
	if directory := os.Getenv(helperVariable); directory != "" {
		server, err := Start(context.Background(), Config{Directory: directory})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready", server.PID())
		select {}
	}
	os.Exit(m.Run())
}

// serveElsewhere starts a server in a child process and returns the child and
// the postmaster's process id.
func serveElsewhere(t *testing.T, directory string) (*exec.Cmd, int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), helperVariable+"="+directory)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	number, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil {
		t.Fatalf("the child says %q", line)
	}
	return child, pid
}

// kill ends the child as kill -9 does.
func kill(t *testing.T, child *exec.Cmd) {
	t.Helper()
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
}

// awaitUnlocked waits until no process of the directory's server is left.
func awaitUnlocked(t *testing.T, directory string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if _, err := Locate(directory); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the server has outlived its parent")
		}
	}
}

func TestServerEndsWithAKilledParent(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	child, postmaster := serveElsewhere(t, directory)
	endpoint, err := Locate(directory)
	if err != nil {
		t.Fatal(err)
	}
	query(t, endpoint, Superuser, "create table kept as select 'here' as v")

	kill(t, child)
	awaitUnlocked(t, directory)
	if works, _ := worksIn(postmaster, filepath.Join(directory, "data")); works {
		t.Error("the postmaster lives")
	}
	again := start(t, Config{Directory: directory})
	if got := query(t, again.Endpoint, Superuser, "select v from kept"); got != "here" {
		t.Errorf("after the parent was killed: %q", got)
	}
}

// A restart at once, as a supervisor does it, meets the server that is ending.
func TestRestartRightAfterAKill(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "postgresql")
	child, before := serveElsewhere(t, directory)
	kill(t, child)
	server := start(t, Config{Directory: directory})
	if server.PID() == before {
		t.Error("the same postmaster")
	}
	query(t, server.Endpoint, Superuser, "select 1")
}

// A previous server that does not end is named, and never run beside.
func TestWaitForThePreviousServerIsBounded(t *testing.T) {
	directory := t.TempDir()
	lingering, err := openLock(filepath.Join(directory, "server.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := flock(lingering, syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Config{Directory: directory, NoSync: true, StartTimeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "has not ended yet") {
		t.Errorf("err = %v", err)
	}
	lingering.Close()
	start(t, Config{Directory: directory, NoSync: true})
}
