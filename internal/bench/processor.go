package bench

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processorTimes is the processor time of processes since they began.
type processorTimes map[int]processTime // by process id

type processTime struct {
	threads map[int]int64 // nanoseconds, by thread id
	whole   int64         // nanoseconds, with the threads that have ended; rounded to 10 ms
}

// ticks is the unit of times in /proc/PID/stat, in nanoseconds (USER_HZ is 100).
const ticks = 10_000_000

// readProcessorTimes reads the times of processes and their descendants from
// /proc/PID/task/TID/schedstat, which counts nanoseconds, and from /proc/PID/stat
// (proc(5)). The result is empty where the system has no such files.
func readProcessorTimes(roots []int) processorTimes {
	times := processorTimes{}
	for _, pid := range descendants(roots) {
		p := processTime{threads: map[int]int64{}}
		if fields := statFields(pid); len(fields) > 12 {
			user, _ := strconv.ParseInt(fields[11], 10, 64)
			system, _ := strconv.ParseInt(fields[12], 10, 64)
			p.whole = (user + system) * ticks
		}
		files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // ended meanwhile
			}
			first, _, _ := strings.Cut(string(text), " ")
			thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			p.threads[thread], _ = strconv.ParseInt(first, 10, 64)
		}
		times[pid] = p
	}
	return times
}

// since is the processor time that was used after an earlier reading. The time of a process
// that ended between the two is not in it.
func (t processorTimes) since(earlier processorTimes) time.Duration {
	var sum int64
	for pid, now := range t {
		before := earlier[pid]
		var threads int64
		for thread, used := range now.threads {
			threads += max(used-before.threads[thread], 0)
		}
		// A greater difference than by rounding is the time of threads that have ended.
		if whole := now.whole - before.whole; whole > threads+2*ticks {
			threads = whole
		}
		sum += threads
	}
	return time.Duration(sum)
}

// statFields are the fields of /proc/PID/stat after the name of the program; nil: the
// process has ended.
func statFields(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	// proc_pid_stat(5): pid (comm) state ppid …; comm may contain any character.
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// descendants are processes and all below them.
func descendants(roots []int) []int {
	if len(roots) == 0 {
		return nil
	}
	children := map[int][]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		fields := statFields(pid)
		if len(fields) < 2 {
			continue // ended meanwhile
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	var found []int
	seen := map[int]bool{}
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		if pid := queue[0]; !seen[pid] {
			seen[pid] = true
			found = append(found, pid)
			queue = append(queue[:len(queue):len(queue)], children[pid]...)
		}
	}
	return found
}

// residentMemory is the resident memory of processes and their descendants in bytes.
func residentMemory(roots []int) (bytes int64) {
	for _, pid := range descendants(roots) {
		text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm")) // empty after the end
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			bytes += pages * int64(os.Getpagesize())
		}
	}
	return bytes
}

// settle waits until processes are idle, at most for so long, so that the work that they
// do after a response counts for the load that caused it, and for no later one.
func settle(roots []int, limit time.Duration) {
	const interval, idle = 20 * time.Millisecond, 600 * time.Microsecond
	before, quiet := readProcessorTimes(roots), 0
	for end := time.Now().Add(limit); quiet < 2 && time.Now().Before(end); {
		time.Sleep(interval)
		now := readProcessorTimes(roots)
		if quiet++; now.since(before) > idle {
			quiet = 0
		}
		before = now
	}
}
