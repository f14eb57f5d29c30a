package forwarder

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/step/internal/steptest"
)

// asUser connects as another user of this machine. It needs root.
func (e *env) asUser(t *testing.T, uid int) *tool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can connect as another user")
	}
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The user of a thread is its own on Linux; the thread ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			done <- result{nil, errno}
			return
		}
		c, err := net.Dial("tcp", e.address)
		done <- result{c, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { _ = r.c.Close() })
	_ = r.c.SetDeadline(time.Now().Add(patience))
	return newTool(t, r.c)
}

const stranger = 65533

// TestPeerUser: another user gets an answer and nothing else, an admitted one a tunnel.
func TestPeerUser(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	for range 2 {
		resp, text := e.asUser(t, stranger).send("CONNECT allowed.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		if resp.StatusCode != 403 || !strings.Contains(text, "peer_not_admitted") {
			t.Errorf("%s %q", resp.Status, text)
		}
	}
	if e.sallyport.Decisions() != 0 {
		t.Error("a request of another user was sent")
	}
	e.printed.line(t, "denied user 65533: peer_not_admitted")
	target := proxytest.Serve(t, proxytest.Echo)
	more := start(t, func(c *Config, _ *upstreamConfig) { c.Admit = Users(stranger) })
	if resp, _ := more.asUser(t, stranger).send("CONNECT allowed.test:" + target.Port + " HTTP/1.1\r\n\r\n").answer(http.MethodConnect); resp.StatusCode != 200 {
		t.Errorf("%s", resp.Status)
	}
}

// TestPeerUserIsNeeded: without the check, every user of the machine has the step's access.
func TestPeerUserIsNeeded(t *testing.T) {
	t.Parallel()
	target := proxytest.Serve(t, proxytest.Echo)
	e := start(t, func(c *Config, _ *upstreamConfig) {
		c.peerUID = func(net.Conn) (uint32, error) { return uint32(os.Getuid()), nil }
	})
	if resp, _ := e.asUser(t, stranger).send("CONNECT allowed.test:" + target.Port + " HTTP/1.1\r\n\r\n").answer(http.MethodConnect); resp.StatusCode != 200 {
		t.Errorf("%s: the attack does not succeed", resp.Status)
	}
}

// TestUndeterminedUser: a peer whose user is not known is not admitted, before a byte of it
// is read.
func TestUndeterminedUser(t *testing.T) {
	t.Parallel()
	e := start(t, func(c *Config, _ *upstreamConfig) {
		c.Admit = func(uint32) bool { return true }
		c.peerUID = func(net.Conn) (uint32, error) { return 0, errors.New("not known\x1b[2J") }
	})
	c := e.dial(t) // sends nothing
	if resp, _ := c.answer(http.MethodGet); resp.StatusCode != 403 {
		t.Errorf("%s", resp.Status)
	}
	if line := e.printed.line(t, "peer_not_admitted"); strings.Contains(line, "\x1b") {
		t.Errorf("printed %q", line)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	admit := Users(7)
	for uid, want := range map[uint32]bool{uint32(os.Getuid()): true, 0: true, 7: true, stranger: false} {
		if admit(uid) != want {
			t.Errorf("user %d: %t", uid, !want)
		}
	}
	if apt, err := user.Lookup("_apt"); err == nil {
		uid, err := strconv.ParseUint(apt.Uid, 10, 32)
		if got := admit(uint32(uid)); err != nil || got != (os.Getuid() == 0) {
			t.Errorf("_apt: %t", got)
		}
	}
}

// TestNetworks: a listener for containers admits by address.
func TestNetworks(t *testing.T) {
	t.Parallel()
	for network, want := range map[string]int{"127.0.0.0/8": 403, "172.17.0.0/16": 403} {
		e := start(t, nil)
		l := proxytest.Listen(t, "127.0.0.1:0")
		served := make(chan error, 1)
		go func() { served <- e.ServeNetworks(l, []netip.Prefix{netip.MustParsePrefix(network)}) }()
		e.address = l.Addr().String()
		resp, text := e.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		if admitted := strings.Contains(text, "policy_denied"); resp.StatusCode != want || admitted != (network == "127.0.0.0/8") {
			t.Errorf("%s: %s %q", network, resp.Status, text)
		}
		e.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestNetworksOfThisMachine: on the listener for containers too, a user of this machine is
// admitted by the user, not by the address of the bridge.
func TestNetworksOfThisMachine(t *testing.T) {
	t.Parallel()
	for _, byAddress := range []bool{false, true} {
		e := start(t, func(c *Config, _ *upstreamConfig) {
			c.Admit = func(uint32) bool { return false }
			if byAddress { // the attack
				c.ownAddress = func(netip.Addr) bool { return false }
			}
		})
		l := proxytest.Listen(t, "127.0.0.1:0")
		served := make(chan error, 1)
		go func() { served <- e.ServeNetworks(l, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}) }()
		e.address = l.Addr().String()
		_, text := e.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n\r\n").answer(http.MethodConnect)
		want := "peer_not_admitted"
		if byAddress {
			want = "policy_denied" // the request reached Sallyport
		}
		if !strings.Contains(text, want) {
			t.Errorf("by address %t: %q, want %s", byAddress, text, want)
		}
		e.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestOwnAddress: the addresses of the interfaces are those of this machine.
func TestOwnAddress(t *testing.T) {
	t.Parallel()
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if address := netip.MustParsePrefix(a.String()).Addr(); !ownAddress(address) {
			t.Errorf("%s is not an address of this machine", address)
		}
	}
	if ownAddress(netip.MustParseAddr("192.0.2.1")) {
		t.Error("192.0.2.1 is an address of this machine")
	}
}

// TestTooManyConnections: a connection over the limit is answered, and a place that
// becomes free is used again.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	e := start(t, func(c *Config, _ *upstreamConfig) { c.MaxConnections = 1 })
	target := proxytest.Serve(t, proxytest.Echo)
	open := "CONNECT allowed.test:" + target.Port + " HTTP/1.1\r\n\r\n"
	first := e.dial(t).send(open)
	if resp, _ := first.answer(http.MethodConnect); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if resp, text := e.dial(t).send(open).answer(http.MethodConnect); resp.StatusCode != 503 || !strings.Contains(text, "too_many_connections") {
		t.Errorf("%s %q", resp.Status, text)
	}
	_ = first.Close()
	proxytest.Eventually(t, "the place is free", func() bool {
		resp, _ := e.dial(t).send(open).answer(http.MethodConnect)
		return resp.StatusCode == 200
	})
	if e.Report().Rejected == 0 {
		t.Error("the report has no rejected connection")
	}
}

// TestLongHead: a head over the limit is answered.
func TestLongHead(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	c := e.dial(t)
	go func() {
		_, _ = io.WriteString(c.TCPConn, "GET http://a.test/ HTTP/1.1\r\nX: "+strings.Repeat("a", 80<<10)+"\r\n\r\n")
	}()
	if resp, _ := c.answer(http.MethodGet); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%s", resp.Status)
	}
}

// TestSlowHead: a head that does not arrive in time ends its connection.
func TestSlowHead(t *testing.T) {
	t.Parallel()
	e := start(t, func(c *Config, _ *upstreamConfig) { c.HeadTimeout = 50 * time.Millisecond })
	for _, begin := range []string{"CONNECT a", "\x05\x01"} {
		if rest, err := io.ReadAll(e.dial(t).send(begin).r); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: %q, %v", begin, rest, err)
		}
	}
}

// TestCloseEndsTunnels: Close ends tunnels, idle connections and WebSockets, and waits for
// their goroutines (TestMain finds those that are left).
func TestCloseEndsTunnels(t *testing.T) {
	t.Parallel()
	e := startAt(t, steptest.Start(t), nil)
	target := proxytest.Serve(t, proxytest.Echo)
	c := e.dial(t).send("CONNECT allowed.test:" + target.Port + " HTTP/1.1\r\n\r\n")
	if resp, _ := c.answer(http.MethodConnect); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	idle := e.dial(t)
	e.Close()
	for _, c := range []*tool{c, idle} {
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("a connection is open")
		}
	}
}
