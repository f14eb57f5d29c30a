package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenerEnds: a server whose listening socket is shut down from outside ends with
// status 1, and its last message names the listener, the cause and the remedy. It
// admits nothing while half of it is unreachable.
func TestListenerEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		inherited bool // by a service manager, which still has the socket
		address   func(*fixture) string
		want      []string
	}{
		"proxy listener":               {false, func(w *fixture) string { return w.proxy }, []string{"listener 127.0.0.1:"}},
		"admin listener":               {false, func(w *fixture) string { return w.admin }, []string{"admin.address 127.0.0.1:"}},
		"listener that was inherited":  {true, func(w *fixture) string { return w.proxy }, []string{"listener 127.0.0.1:"}},
		"admin listener, inherited":    {true, func(w *fixture) string { return w.admin }, []string{"admin.address 127.0.0.1:"}},
		"listener with an open tunnel": {false, func(w *fixture) string { return w.proxy }, []string{"listener 127.0.0.1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{extra: "shutdown: {drain_timeout: 200ms}\n"})
			var socket int
			if c.inherited {
				m := manage(t, w, w.proxy, w.admin)
				p := m.run()
				w.server = p.server
				p.ready()
				socket = int(m.files[map[string]int{w.proxy: 0, w.admin: 1}[c.address(w)]].Fd())
			} else {
				w.start()
				socket = listeningSocket(t, w.cmd.Process.Pid, c.address(w))
			}
			if strings.Contains(name, "tunnel") {
				w.tunnel(t, w.anybody(), "raw.partner.example:"+echo(t).port).echoes(t, "open")
			}
			if err := unix.Shutdown(socket, unix.SHUT_RD); err != nil {
				t.Fatal(err)
			}
			w.await(1)
			text := outputOutsideLog(w.server)
			for _, part := range append(c.want, "sallyport: accept connections on ", "closed or shut down from outside", "start the server again") {
				if !strings.Contains(text, part) {
					t.Errorf("the last message does not contain %q:\n%s", part, text)
				}
			}
			testWriterEnded(t, w)
		})
	}
}

// listeningSocket returns a descriptor of this process for the socket that a child
// listens on.
func listeningSocket(t *testing.T, pid int, address string) int {
	t.Helper()
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range open {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			t.Skipf("pidfd_getfd(2): %v: this system lets no process duplicate another's descriptor", err)
		}
		if err != nil { // closed meanwhile
			continue
		}
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens == 1 && socketAddress(fd) == address {
			t.Cleanup(func() { _ = unix.Close(fd) })
			return fd
		}
		_ = unix.Close(fd)
	}
	t.Fatalf("process %d has no socket that listens on %s", pid, address)
	return -1
}

func socketAddress(fd int) string {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	if a, ok := name.(*unix.SockaddrInet4); ok {
		return net.JoinHostPort(net.IP(a.Addr[:]).String(), strconv.Itoa(a.Port))
	}
	return ""
}

// TestDescriptorsRunOut: a server without descriptors for new connections reports each
// attempt, keeps its tunnels and serves again as soon as there are some.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	tunnel := w.tunnel(t, w.anybody(), "raw.partner.example:"+echo(t).port)
	tunnel.echoes(t, "before")
	limitDescriptors(t, w.cmd.Process.Pid, 3) // fewer than are open
	conn, err := net.Dial("tcp", w.proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.log.wait(t, "of the failure", func(line fields) bool {
		return line["msg"] == "accept failed" && strings.Contains(show(line["error"]), "too many open files")
	})
	tunnel.echoes(t, "meanwhile")
	limitDescriptors(t, w.cmd.Process.Pid, 1<<20)
	w.connect(t, w.anybody(), "unlisted.example:443").refused(t, 403, "no_rule_matched")
	tunnel.echoes(t, "after")
	w.stop()
}

// limitDescriptors limits the descriptors that another process may have.
func limitDescriptors(t *testing.T, pid int, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(n, limit.Max)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}
