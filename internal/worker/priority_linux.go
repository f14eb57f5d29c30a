package worker

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The lower priority: niceness beyond the server's (nice(2)), and the length of a time
// slice, after which every process that wakes up interrupts the worker (sched_setattr(2),
// sched_runtime, since Linux 6.12). A worker still gets a fifth of a processor that one
// other process uses: its calls must not run out of time because the machine is busy.
const (
	lowNice  = 7
	lowSlice = 400_000 // ns
)

// lowerPriority lowers the priority of every thread of a worker. A priority belongs to a
// thread, and threads that start later inherit it; a second pass finds those that started
// meanwhile. What the system does not permit is left as it is: no limit depends on it.
func lowerPriority(pid int) {
	nice := min(lowNice+priority(), 19)
	directory := fmt.Sprintf("/proc/%d/task", pid)
	for range 2 {
		threads, _ := os.ReadDir(directory)
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			attributes := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: int32(nice), Runtime: lowSlice}
			if unix.SchedSetAttr(id, attributes, 0) != nil {
				_ = unix.Setpriority(unix.PRIO_PROCESS, id, nice)
			}
		}
	}
	// Where the kernel groups processes by session, niceness counts within a group only.
	// A worker has a session, and therefore a group, of its own (sched(7), "The autogroup
	// feature").
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(lowNice)), 0)
}

// priority is the niceness of this process. The system call returns 20 minus it.
func priority() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n
}
