package worker

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pageFile is the descriptor of the shared page in a worker.
const pageFile = 3

// oomScoreAdjust makes the kernel end a worker before the server (proc(5),
// oom_score_adj).
const oomScoreAdjust = "500"

// keepInherited sets close-on-exec on every inherited descriptor, so that programs
// which this process starts do not inherit one.
func keepInherited() {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc no worker starts either
	}
	for _, fd := range open {
		if n, err := strconv.Atoi(fd.Name()); err == nil && n > 2 {
			unix.CloseOnExec(n)
		}
	}
}

// confine maps the shared page and applies the limits to this process. Afterwards
// the process can open no descriptor: no file, no socket, no pipe.
func confine(l Limits) error {
	p, err := mapPage(pageFile)
	if err != nil {
		return err
	}
	if err := unix.Close(pageFile); err != nil {
		return fmt.Errorf("close the shared page: %w", err)
	}
	shared.Store(p)
	debug.SetMaxStack(int(l.Stack))
	debug.SetTraceback("none")             // the cause is enough
	debug.SetMemoryLimit(l.Memory / 4 * 3) // collect garbage rather than reach the hard limit
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// The server may run with a score that protects it, and a worker inherits that: if the
	// machine has no memory left, the kernel ends a worker first. Not every sandbox lets a
	// process write here, and none of the limits depends on it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(oomScoreAdjust), 0)
	data, err := dataBytes()
	if err != nil {
		return err
	}
	for _, limit := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"core size", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"descriptors", unix.RLIMIT_NOFILE, 0},
		{"memory", unix.RLIMIT_DATA, data + uint64(l.Memory)*memoryFactor},
	} {
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: limit.value, Max: limit.value}); err != nil {
			return fmt.Errorf("limit %s: %w", limit.name, err)
		}
	}
	return nil
}

// dataBytes is the memory of this process that counts towards RLIMIT_DATA (proc(5),
// VmData).
func dataBytes() (uint64, error) {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read the process's memory: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmData:"); ok {
			kilobytes, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 50)
			if err != nil {
				return 0, fmt.Errorf("read the process's memory: %w", err)
			}
			return kilobytes << 10, nil
		}
	}
	return 0, errors.New("read the process's memory: /proc/self/status has no VmData")
}

// processorTime is the processor time that this process has used.
func processorTime() time.Duration { return clock(unix.CLOCK_PROCESS_CPUTIME_ID) }

// processorTimeOf is the processor time that a process has used: clock_getcpuclockid(3).
func processorTimeOf(pid int) time.Duration { return clock(int32(^pid<<3 | 2)) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
