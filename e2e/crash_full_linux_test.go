package e2e

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fillDisk makes every write of the proxy's processes in PostgreSQL fail, to
// tables, indexes and the log of transactions alike: RLIMIT_FSIZE of 0 on them,
// which PostgreSQL meets as EFBIG where a full disk is ENOSPC. A row that needs a
// new page is refused with an error; a COMMIT whose log cannot be written is a
// PANIC, after which PostgreSQL starts again. No right is needed for it but to
// run PostgreSQL. The postmaster is left alone: what it starts again is limited
// again a moment later.
func (c *campaign) fillDisk() {
	limited, err := 0, error(nil)
	limit := func(cur uint64) {
		for _, pid := range c.postgres.Processes("sallyport_writer") {
			if e := setFileSize(pid, cur); e == nil {
				limited++
			} else if e != unix.ESRCH {
				err = e
			}
		}
	}
	end := time.After(time.Duration(100+c.random.IntN(500)) * time.Millisecond)
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	begun, over := time.Now(), false
	for !over || limited == 0 { // the proxy may be about to come back from the fault before
		if time.Since(begun) > patience {
			c.t.Fatalf("there was no process of PostgreSQL's to limit: %v", err)
		}
		limit(0)
		select {
		case <-tick.C:
		case <-end:
			over = true
		}
	}
	limit(unix.RLIM_INFINITY)
}

// setFileSize sets the soft limit of a process as its own user: root may lack
// CAP_SYS_RESOURCE. The user of a thread is changed, which ends with it.
func setFileSize(pid int, cur uint64) error {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return unix.ESRCH
	}
	owner := info.Sys().(*syscall.Stat_t)
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		result <- func() error {
			if uid, gid := uintptr(owner.Uid), uintptr(owner.Gid); int(owner.Uid) != os.Geteuid() {
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
					return errno
				}
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
					return errno
				}
			}
			var limit unix.Rlimit
			if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &limit); err != nil {
				return err
			}
			limit.Cur = min(cur, limit.Max)
			return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil)
		}()
	}()
	return <-result
}
