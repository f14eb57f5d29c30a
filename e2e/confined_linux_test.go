package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinedVariable names the file of a seccomp filter. With it, the test binary applies the
// filter to itself and becomes the program of its arguments.
const confinedVariable = "SALLYPORT_TEST_SECCOMP"

// runConfined does not return if the variable is set.
func runConfined() {
	path := os.Getenv(confinedVariable)
	if path == "" {
		return
	}
	err := func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := seccomp(text); err != nil {
			return fmt.Errorf("seccomp(2): %w", err)
		}
		// The guard refuses the machine's own addresses, and refuses every address if it
		// cannot read these.
		if _, err := net.InterfaceAddrs(); err != nil {
			return fmt.Errorf("read the interfaces' addresses: %w", err)
		}
		if err := os.Unsetenv(confinedVariable); err != nil {
			return err
		}
		return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}()
	fmt.Fprintf(os.Stderr, "confined: %v\n", err)
	os.Exit(3)
}

// seccomp applies a filter, in the form of sock_filter(bpf(4)), to every thread.
func seccomp(text []byte) error {
	instructions := make([]unix.SockFilter, len(text)/8)
	if err := binary.Read(bytes.NewReader(text), binary.NativeEndian, instructions); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// TestConfinedByItsUnit: under the system calls and address families that the systemd unit
// permits, the server decides by an organization's and by a repository's rules, relays,
// and reads its interfaces' addresses.
func TestConfinedByItsUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: nothing knows what the unit's groups of system calls are")
	}
	filter := filepath.Join(t.TempDir(), "filter")
	if err := os.WriteFile(filter, unitFilter(t, analyze, "../deploy/systemd/sallyport.service"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "sallyport")
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s' '%s' \"$@\"\n", confinedVariable, filter, self, sallyport(t))
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	w := newFixture(t, options{program: program, handler: upstream(t), tls: true})
	w.start()
	for name, run := range map[string]func(*testing.T, *fixture){
		"allowed": testAllowed, "denied": testDenied, "delegated to the repository": testDelegated,
		"TLS listener": testTLSListener, "download and upload": testLarge, "own address": testOwnAddress,
	} {
		t.Run(name, func(t *testing.T) { run(t, w) })
	}
	if mode, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid)); err != nil || !strings.Contains(string(mode), "Seccomp:\t2\n") {
		t.Errorf("the server is not confined: %v", err)
	}
	w.stop()
}

// unitFilter compiles SystemCallFilter= and RestrictAddressFamilies= of a unit as
// systemd.exec(5) describes them.
func unitFilter(t *testing.T, analyze, unit string) []byte {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, name := range systemCalls(t, analyze, "@default") {
		allowed[name] = true
	}
	var families []uint32
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "SystemCallFilter":
			value, remove := strings.CutPrefix(value, "~")
			for _, group := range strings.Fields(value) {
				for _, name := range systemCalls(t, analyze, group) {
					allowed[name] = !remove
				}
			}
		case "RestrictAddressFamilies":
			for _, name := range strings.Fields(value) {
				families = append(families, map[string]uint32{"AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_UNIX": unix.AF_UNIX, "AF_NETLINK": unix.AF_NETLINK}[name])
			}
		}
	}
	if !allowed["openat"] || len(families) == 0 || slices.Contains(families, 0) {
		t.Fatalf("the unit permits %d system calls and the families %v", len(allowed), families)
	}
	const number, firstArgument = 0, 16 // offsets in struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(k uint32) unix.SockFilter { // equal, it skips the next instruction
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: k}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	program := []unix.SockFilter{load(number)}
	numbers := systemCallNumbers(t)
	for name, permit := range allowed {
		if n, known := numbers[name]; known && permit && name != "socket" {
			program = append(program, unless(n), end(unix.SECCOMP_RET_ALLOW))
		}
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.SYS_SOCKET},
		end(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), load(firstArgument))
	for _, family := range families {
		program = append(program, unless(family), end(unix.SECCOMP_RET_ALLOW))
	}
	program = append(program, end(unix.SECCOMP_RET_ERRNO|uint32(unix.EAFNOSUPPORT)))
	var out bytes.Buffer
	if err := binary.Write(&out, binary.NativeEndian, program); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// systemCalls are the members of a group of system calls, or the one that is named.
func systemCalls(t *testing.T, analyze, name string) []string {
	t.Helper()
	if !strings.HasPrefix(name, "@") {
		return []string{name}
	}
	out, err := exec.CommandContext(t.Context(), analyze, "syscall-filter", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		if member := strings.TrimSpace(line); member != "" && member != name && !strings.HasPrefix(member, "#") {
			all = append(all, systemCalls(t, analyze, member)...)
		}
	}
	return all
}

// systemCallNumbers reads the numbers of this architecture from the sources of x/sys.
func systemCallNumbers(t *testing.T) map[string]uint32 {
	t.Helper()
	directory, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(directory)), "zsysnum_linux_"+runtime.GOARCH+".go"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]uint32{}
	for _, found := range regexp.MustCompile(`SYS_(\w+)\s+= (\d+)`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseUint(found[2], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		numbers[strings.ToLower(found[1])] = uint32(n)
	}
	return numbers
}
