package worker

import "syscall"

// executable is this program, even if its file was replaced since the start.
func executable() string { return "/proc/self/exe" }

// attributes end a worker with this process, and give it a session: signals that a
// terminal sends to this process's group do not reach the worker, and the kernel schedules
// the worker as a group of its own (see lowerPriority).
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
}
