package e2e

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowerPriority gives every thread of this process the policy SCHED_IDLE (sched(7)):
// a thread of any other process preempts it. Later threads inherit the policy.
func lowerPriority() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		}
	}
}
