package worker

import "syscall"

// executable is this program, even if its file was replaced since the start.
func executable() string { return "/proc/self/exe" }

// attributes end a worker with this process, and keep signals that a terminal sends
// to this process's group from reaching the worker.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
