package peeruid

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// pair returns both ends of a connection over loopback, whose client's socket belongs to
// a user. Only root can choose another user than its own.
func pair(t *testing.T, network, address string, uid int) (client int, accepted net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no %s: %v", network, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	client = -1
	done := make(chan error, 1)
	go func() {
		// The user of a thread is its own on Linux. The thread ends with the goroutine,
		// since it is not unlocked.
		runtime.LockOSThread()
		if uid != os.Getuid() {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				done <- errno
				return
			}
		}
		var err error
		client, err = connect(l.Addr().(*net.TCPAddr).AddrPort())
		done <- err
	}()
	accepted, err = l.Accept()
	if err == nil {
		err = <-done
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return client, accepted
}

// connect opens an IPv6 socket, also to an IPv4 address, as Java does.
func connect(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
}

var addresses = map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}

// users are the users that the test can connect as.
func users() []int {
	if os.Getuid() == 0 {
		return []int{0, 65534}
	}
	return []int{os.Getuid()}
}

// TestOf: both ways of asking the kernel return the user of the peer's socket.
func TestOf(t *testing.T) {
	t.Parallel()
	for network, address := range addresses {
		for _, uid := range users() {
			client, accepted := pair(t, network, address, uid)
			got, err := Of(accepted)
			if err != nil || int(got) != uid {
				t.Errorf("%s: user %d, %v, want %d", network, got, err, uid)
			}
			peer, local := unmapped(accepted.RemoteAddr().(*net.TCPAddr)), unmapped(accepted.LocalAddr().(*net.TCPAddr))
			e, err := find(peer, local)
			if err == nil {
				got, err = e.user(peer, local)
			}
			if err != nil || int(got) != uid {
				t.Errorf("%s in /proc: user %d, %v, want %d", network, got, err, uid)
			}
			if e, err := diag(peer, local); err == nil && (int(e.uid) != uid || e.inode == 0) {
				t.Errorf("%s by netlink: %+v, want %d", network, e, uid)
			} else if err != nil {
				t.Logf("netlink: %v", err)
			}
			// A half-close is a tool that still reads.
			if err := unix.Shutdown(client, unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			if got, err := Of(accepted); err != nil || int(got) != uid {
				t.Errorf("%s half-closed: user %d, %v, want %d", network, got, err, uid)
			}
			_ = unix.Close(client)
		}
	}
}

// TestClosedPeer: a peer that has sent its request and closed its socket has no user. The
// kernel reports root for it.
func TestClosedPeer(t *testing.T) {
	t.Parallel()
	for network, address := range addresses {
		for _, uid := range users() {
			client, accepted := pair(t, network, address, uid)
			if _, err := unix.Write(client, []byte("CONNECT internal.example:443 HTTP/1.1\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(client)
			if got, err := Of(accepted); !errors.Is(err, ErrUndetermined) {
				t.Errorf("%s: user %d, %v", network, got, err)
			}
		}
	}
}

// TestOpenSocketIsNeeded: without the check of the inode, a user that closes its socket
// passes for root.
func TestOpenSocketIsNeeded(t *testing.T) {
	t.Parallel()
	uid := users()[len(users())-1]
	client, accepted := pair(t, "tcp4", "127.0.0.1:0", uid)
	_ = unix.Close(client)
	peer, local := unmapped(accepted.RemoteAddr().(*net.TCPAddr)), unmapped(accepted.LocalAddr().(*net.TCPAddr))
	var e entry
	proxytest.Eventually(t, "the kernel has the closed socket", func() (ok bool) {
		var err error
		e, err = find(peer, local)
		return err == nil && e.inode == 0
	})
	if e.uid != 0 {
		t.Fatalf("a closed socket belongs to user %d: the attack does not succeed", e.uid)
	}
	e.inode = 1
	if got, err := e.user(peer, local); err != nil || got != 0 {
		t.Errorf("user %d, %v: the attack does not succeed", got, err)
	}
}

// TestStates: only a socket of exactly this connection, whose process can use it, has a
// user.
func TestStates(t *testing.T) {
	t.Parallel()
	peer, local := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:3128")
	for state := range uint8(13) {
		_, err := entry{local: peer, remote: local, state: state, uid: 7, inode: 9}.user(peer, local)
		if usable := state == established || state == finWait1 || state == finWait2; usable != (err == nil) {
			t.Errorf("state %d: %v", state, err)
		}
	}
	if _, err := (entry{local: local, remote: peer, state: established, inode: 9}).user(peer, local); err == nil {
		t.Error("the accepted socket passed for the peer's")
	}
}

// TestNoSuchPeer: a peer of another network namespace is not in the table.
func TestNoSuchPeer(t *testing.T) {
	t.Parallel()
	if uid, err := lookup(netip.MustParseAddrPort("127.9.9.9:1"), netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, ErrUndetermined) {
		t.Errorf("user %d, %v", uid, err)
	}
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if uid, err := Of(a); !errors.Is(err, ErrUndetermined) {
		t.Errorf("user %d, %v", uid, err)
	}
}

// FuzzKernel: no row and no message makes the parsers panic.
func FuzzKernel(f *testing.F) {
	f.Add([]byte("   0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0"))
	f.Add([]byte("   1: 0000000000000000FFFF00000100007F:0C38 0000000000000000FFFF00000100007F:9C40 01 0:0 0:0 0 33 0 77 1"))
	f.Add(make([]byte, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseLine(b); ok && (!e.local.IsValid() || !e.remote.IsValid()) {
			t.Fatalf("%q: %+v", b, e)
		}
		if e, err := parse(b); err == nil && len(b) < headerBytes+72 {
			t.Fatalf("%d bytes: %+v", len(b), e)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.DialTimeout("tcp", l.Addr().String(), time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	accepted, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	for b.Loop() {
		if _, err := Of(accepted); err != nil {
			b.Fatal(err)
		}
	}
}
