package pgembed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent has the kernel send signal to the child when the thread that
// started it is gone (prctl(2), PR_SET_PDEATHSIG: the thread, not the process).
func dieWithParent(attributes *syscall.SysProcAttr, signal syscall.Signal) {
	attributes.Pdeathsig = signal
}

// descriptorPath is the name under which a child that got an open directory as
// its descriptor number reaches it. It needs no permission on the directories
// above, which a child that root starts as another user often lacks.
func descriptorPath(descriptor int) (string, bool) {
	return fmt.Sprintf("/proc/self/fd/%d", descriptor), true
}

// worksIn reports whether the process has the directory as its working
// directory, as every PostgreSQL process has its cluster. known is false where
// that cannot be found out.
func worksIn(pid int, directory string) (works, known bool) {
	want, err := os.Stat(directory)
	if err != nil {
		return false, false
	}
	process := filepath.Join("/proc", strconv.Itoa(pid))
	got, err := os.Stat(filepath.Join(process, "cwd"))
	if err != nil {
		// A zombie without a parent that reaps it (a container without an init) has none.
		// Else it is gone, or, for root without CAP_SYS_PTRACE, not shown to us.
		stat, err := os.ReadFile(filepath.Join(process, "stat"))
		_, state, _ := bytes.Cut(stat, []byte(") ")) // proc_pid_stat(5): pid (comm) state …
		return false, err == nil && bytes.HasPrefix(state, []byte("Z"))
	}
	return os.SameFile(want, got), true
}
