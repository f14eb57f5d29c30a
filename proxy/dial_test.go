package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

var loopback = &Guard{AllowNetworks: prefixes("127.0.0.0/8", "::1/128")}

// blackHole is a port that answers nothing: its backlog is full, so that the
// kernel drops further SYNs.
func blackHole(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: netip.MustParseAddr(address).As4()}),
		syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(name.(*syscall.SockaddrInet4).Port))
	for range 16 {
		c, err := net.DialTimeout("tcp", to.String(), 100*time.Millisecond)
		if err != nil {
			return to
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the backlog does not fill")
	return to
}

func TestDialOnlyPinned(t *testing.T) {
	server := addrPort(proxytest.Listen(t, "127.0.0.1:0").Addr())
	d := Dialer{guard: loopback}
	if _, err := d.dial(t.Context(), nil); !errors.Is(err, errProhibited) {
		t.Errorf("nothing pinned: %v", err)
	}
	zero := Dialer{}
	if _, err := zero.dial(t.Context(), []netip.AddrPort{server}); !errors.Is(err, errProhibited) {
		t.Errorf("no guard: %v", err)
	}
	strict := Dialer{guard: &Guard{}}
	// It was pinned, but must not be dialed: the second look refuses it.
	if _, err := strict.dial(t.Context(), []netip.AddrPort{server}); !errors.Is(err, errProhibited) {
		t.Errorf("pinned loopback: %v", err)
	}
	for _, address := range []string{"", "x", "127.0.0.1", "localhost:443", "127.0.0.1:http", "[::1", "127.0.0.1:0", "0x7f.1:443",
		"127.0.0.2:443", "[::1]:443", "[::ffff:127.0.0.2]:443", "[fe80::1%lo]:443"} {
		if err := d.check(address, []netip.AddrPort{server, netip.MustParseAddrPort("127.0.0.1:443")}); !errors.Is(err, errProhibited) {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1:443", "[::ffff:127.0.0.1]:443"} {
		if err := d.check(address, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:443")}); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	conn, err := d.dial(t.Context(), []netip.AddrPort{server})
	if err != nil || addrPort(conn.RemoteAddr()) != server {
		t.Fatalf("dial: %v, %v", conn, err)
	}
	_ = conn.Close()
}

// TestDialControlIsNeeded shows that without Control the same dialer gets there.
func TestDialControlIsNeeded(t *testing.T) {
	server := addrPort(proxytest.Listen(t, "127.0.0.1:0").Addr())
	conn, err := dialOne(t.Context(), &net.Dialer{}, server)
	if err != nil {
		t.Fatalf("the attack does not work even without the control: %v", err)
	}
	_ = conn.Close()
	d := Dialer{guard: &Guard{}}
	if _, err := d.dial(t.Context(), []netip.AddrPort{server}); !errors.Is(err, errProhibited) {
		t.Errorf("with it: %v", err)
	}
}

func TestDialIgnoresTheEnvironment(t *testing.T) {
	trap := proxytest.Listen(t, "127.0.0.1:0")
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+trap.Addr().String())
	}
	server := proxytest.Listen(t, "127.0.0.1:0")
	d := Dialer{guard: loopback}
	conn, err := d.dial(t.Context(), []netip.AddrPort{addrPort(server.Addr())})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != server.Addr().String() {
		t.Errorf("dialed %s", conn.RemoteAddr())
	}
}

func TestDialRacesAddresses(t *testing.T) {
	hole := blackHole(t, "127.0.0.1")
	server := proxytest.Listen(t, "127.0.0.1:0")
	to := addrPort(server.Addr())
	refused := func() netip.AddrPort {
		l := proxytest.Listen(t, "127.0.0.1:0")
		_ = l.Close()
		return addrPort(l.Addr())
	}

	t.Run("the first is silent", func(t *testing.T) {
		d := Dialer{guard: loopback, Stagger: 20 * time.Millisecond, Timeout: 5 * time.Second}
		conn, err := d.dial(t.Context(), []netip.AddrPort{hole, to})
		if err != nil || addrPort(conn.RemoteAddr()) != to {
			t.Fatalf("%v, %v", conn, err)
		}
		_ = conn.Close()
	})
	t.Run("the first refuses", func(t *testing.T) {
		// The next one does not wait for its turn.
		d := Dialer{guard: loopback, Stagger: time.Hour, Timeout: 5 * time.Second}
		conn, err := d.dial(t.Context(), []netip.AddrPort{refused(), refused(), to})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
	t.Run("the first is prohibited", func(t *testing.T) {
		d := Dialer{guard: &Guard{AllowNetworks: prefixes("127.0.0.1/32")}, Stagger: time.Hour}
		conn, err := d.dial(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:443"), to})
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
	t.Run("all are silent", func(t *testing.T) {
		d := Dialer{guard: loopback, Stagger: time.Millisecond, Timeout: 50 * time.Millisecond}
		if _, err := d.dial(t.Context(), []netip.AddrPort{hole, hole}); !isTimeout(err) {
			t.Errorf("%v", err)
		}
		if _, err := d.dial(t.Context(), []netip.AddrPort{hole}); !isTimeout(err) {
			t.Errorf("one: %v", err)
		}
	})
	t.Run("all refuse", func(t *testing.T) {
		d := Dialer{guard: loopback}
		_, err := d.dial(t.Context(), []netip.AddrPort{refused(), refused()})
		if err == nil || isTimeout(err) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v", err)
		}
	})
	t.Run("one refuses, one is silent", func(t *testing.T) {
		d := Dialer{guard: loopback, Timeout: 50 * time.Millisecond}
		if _, err := d.dial(t.Context(), []netip.AddrPort{refused(), hole}); !isTimeout(err) {
			t.Errorf("%v", err)
		}
	})
	t.Run("losers are closed", func(t *testing.T) {
		l := proxytest.Listen(t, "127.0.0.1:0")
		accepted := make(chan net.Conn, 64)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- c
			}
		}()
		d := Dialer{guard: loopback, Stagger: time.Nanosecond}
		many := slices.Repeat([]netip.AddrPort{addrPort(l.Addr())}, 16)
		conn, err := d.dial(t.Context(), many)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		_ = l.Close()
		for c := range accepted {
			// Every connection that came into being ends, the winner by us.
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a loser is still open")
			}
			_ = c.Close()
		}
	})
	t.Run("the client goes away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d := Dialer{guard: loopback}
		if _, err := d.dial(ctx, []netip.AddrPort{hole, to}); !errors.Is(err, context.Canceled) || isTimeout(err) {
			t.Errorf("%v", err)
		}
	})
}

func TestLostDialsAreClosed(t *testing.T) {
	l := proxytest.Listen(t, "127.0.0.1:0")
	loser, other := connected(t, l)
	defer other.Close()
	results := make(chan dialResult, 2)
	results <- dialResult{err: errProhibited}
	results <- dialResult{conn: loser}
	discard(results, 2)
	wantEOF(t, other)
}

func TestAdmissionDial(t *testing.T) {
	hole := blackHole(t, "127.0.0.1")
	gone := proxytest.Listen(t, "127.0.0.1:0")
	_ = gone.Close()
	for to, want := range map[netip.AddrPort]policy.Reason{hole: policy.TargetTimeout, addrPort(gone.Addr()): policy.TargetUnreachable} {
		w := newEnv()
		w.guard = loopback
		w.dialer = Dialer{Timeout: 50 * time.Millisecond}
		w.addrs = []netip.Addr{to.Addr()}
		a, refusal := w.gate(t).Admit(t.Context(), attempt(fmt.Sprintf("silent.example:%d", to.Port())))
		if refusal != nil {
			t.Fatal(refusal)
		}
		_, refusal = a.Dial(t.Context())
		if refusal == nil || refusal.Reason != want || refusal.DecisionID != a.ID || refusal.Rule != "partner-api" || !refusal.Recorded {
			t.Fatalf("refusal %+v, want %s", refusal, want)
		}
		if s := fmt.Sprintf("%+v", refusal); strings.Contains(s, "127.0.0.1") {
			t.Errorf("an address in what the client sees: %s", s)
		}
		a.Close(Outcome{Cause: refusal.Cause(), Status: refusal.Status})
		if e := w.events()[1]; e.CloseReason != string(want) || e.Status != refusal.Status || e.DialedAddress.IsValid() {
			t.Errorf("end %+v", e)
		}
	}
}

func TestInterleave(t *testing.T) {
	a := netip.MustParseAddrPort
	in := []netip.AddrPort{a("1.0.0.1:1"), a("1.0.0.2:1"), a("1.0.0.3:1"), a("[2606::1]:1"), a("[2606::2]:1")}
	want := []netip.AddrPort{in[3], in[0], in[4], in[1], in[2]}
	if got := interleave(in); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
