package peeruid

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// connectFrom connects from a port of loopback, 0 for any, and returns the socket and the
// port. The port can be used again as soon as its connection has been reset.
func connectFrom(t *testing.T, port int, to *net.TCPAddr) (fd, from int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	loopback := [4]byte{127, 0, 0, 1}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, name.(*unix.SockaddrInet4).Port
}

// TestConnectedIsNeeded: a peer sends a request and resets its connection, and then another
// process connects from the same port. Without the check of the accepted socket, the
// request passes for one of the second process.
func TestConnectedIsNeeded(t *testing.T) {
	t.Parallel()
	l := proxytest.Listen(t, "127.0.0.1:0")
	const sent = "GET http://internal.example/ HTTP/1.1\r\n\r\n"
	first, port := connectFrom(t, 0, l.Addr().(*net.TCPAddr))
	if _, err := unix.Write(first, []byte(sent)); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptLinger(first, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(first); err != nil {
		t.Fatal(err)
	}
	second, _ := connectFrom(t, port, l.Addr().(*net.TCPAddr))
	t.Cleanup(func() { _ = unix.Close(second) })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	peer, local := unmapped(c.RemoteAddr().(*net.TCPAddr)), unmapped(c.LocalAddr().(*net.TCPAddr))
	if peer.Port() != uint16(port) {
		t.Fatalf("the connection is from port %d", peer.Port())
	}
	if _, err := lookup(peer, local); err != nil {
		t.Errorf("%v: the attack does not succeed", err)
	}
	if uid, err := Of(c); !errors.Is(err, ErrUndetermined) {
		t.Errorf("user %d, %v", uid, err)
	}
	b := make([]byte, len(sent))
	if n, err := c.Read(b); err != nil || string(b[:n]) != sent {
		t.Errorf("%q, %v: the attack does not succeed", b[:n], err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if _, err := Of(other); err != nil {
		t.Error(err)
	}
}
