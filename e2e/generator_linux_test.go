package e2e

import (
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownSession starts a process in a session of its own. Where the kernel schedules each
// session as a group (sched(7), "The autogroup feature"), a priority counts within the
// group only: without a session of its own, the generator would have the same part of the
// processors as PostgreSQL, whose processes have sessions.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// lowerPriority lets a thread of any other process preempt this process's threads: by the
// lowest niceness of its group and a short time slice, or else by the policy SCHED_IDLE
// (sched(7)). Later threads inherit both.
func lowerPriority() {
	attributes := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
	if os.WriteFile("/proc/self/autogroup", []byte("19"), 0) == nil {
		attributes = &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: 19, Runtime: 100_000}
	}
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetAttr(id, attributes, 0)
		}
	}
}
