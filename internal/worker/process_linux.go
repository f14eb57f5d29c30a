package worker

import "syscall"

// executable is this very program, whatever has become of its file since it started.
func executable() string { return "/proc/self/exe" }

// attributes make a worker die with this process, and keep a signal that a terminal
// sends to this process's group from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
