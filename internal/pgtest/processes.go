package pgtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// children are the processes whose parent is pid, read from /proc. PostgreSQL's
// backends are direct children of the postmaster, each in a session of its own,
// so that a signal to the process group does not reach them.
func children(pid int) []int {
	var found []int
	entries, _ := os.ReadDir("/proc") // none where there is no /proc
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		// proc_pid_stat(5): pid (comm) state ppid …; comm may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

// Processes are the server's processes whose title has this in it, such as
// "walwriter" or "sallyport_writer" (PostgreSQL documentation, "Standard Unix
// Tools"). Linux only: there are none elsewhere.
func (s *Server) Processes(title string) []int {
	var found []int
	for _, pid := range children(s.current().PID()) {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(line), title) {
			found = append(found, pid)
		}
	}
	return found
}
