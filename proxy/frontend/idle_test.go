package frontend

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// dialFrom connects from one of this machine's loopback addresses.
func (s *env) dialFrom(t testing.TB, address string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := d.DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn.(*net.TCPConn))
}

func bounded(most, ofOne int) func(*env, *Config, *ListenerConfig) {
	return func(_ *env, c *Config, _ *ListenerConfig) {
		c.MaxConnections, c.MaxIdle, c.MaxIdlePerClient = 100, most, ofOne
	}
}

// The connection that has been idle longest is closed, with an answer, and one that is
// behind its head, or a tunnel, never does.
func TestOldestIdleConnectionIsEvicted(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	s := start(t, bounded(50, 3))
	tunnel := s.dial(t).send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
	tunnel.answer("CONNECT")
	kept := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n")
	kept.answer("GET")
	s.awaitWaiting(t, 1)
	silent := s.dial(t)
	s.awaitWaiting(t, 2)
	slow := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\n")
	s.awaitWaiting(t, 3)

	s.dial(t) // the kept one goes, which has waited longest, without a word
	if got := kept.rest(); got != "" {
		t.Errorf("the kept connection got %q", got)
	}
	for i, c := range []*client{silent, slow} {
		s.dial(t)
		resp, _ := c.answer("GET")
		if resp.StatusCode != 503 || resp.Header.Get("Sallyport-Reason") != "overloaded" || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d: %s %v", i, resp.Status, resp.Header)
		}
	}
	// Another address has room of its own, and the tunnel is untouched.
	if resp, _ := s.dialFrom(t, "127.0.0.2").send("GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n").answer("GET"); resp.StatusCode != 200 {
		t.Errorf("from another address: %s", resp.Status)
	}
	tunnel.send("still here")
	_ = tunnel.CloseWrite()
	if got := tunnel.rest(); got != "still here" {
		t.Errorf("through the tunnel came %q", got)
	}
}

// awaitWaiting waits until so many connections wait for a request.
func (s *env) awaitWaiting(t testing.TB, n int) {
	t.Helper()
	proxytest.Eventually(t, strconv.Itoa(n)+" connections wait", func() bool { return s.server.Idle() == n })
}

// flood opens 150 connections from an address, half of them silent and half with a piece
// of a head, and holds each until the server ends it. Once fewer than 90 are left it keeps
// opening others, up to 90: what the server evicts counts until its goroutine has ended,
// so that three floods stay below the 400 connections that there may be.
func flood(ctx context.Context, address, from string) {
	const burst, after = 150, 90
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan struct{}, burst)
	for i, open := 0, 0; ; i, open = i+1, open+1 {
		for ; i >= burst && open >= after; open-- {
			select {
			case <-ended:
			case <-ctx.Done():
				return
			}
		}
		wg.Go(func() {
			defer func() { ended <- struct{}{} }()
			conn, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			if i%2 == 0 {
				_, _ = io.WriteString(conn, "CONNECT up.test:443 HTTP/1.1\r\nX: ")
			}
			_, _ = io.Copy(io.Discard, conn)
		})
	}
}

// TestIdleLimitIsNeeded: while three addresses hold as many silent and slow connections
// as they can get, a step's traffic goes through; without the limits the
// same flood takes every connection that there is, and the step gets nothing.
func TestIdleLimitIsNeeded(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	for _, limited := range []bool{true, false} {
		t.Run(fmt.Sprint("limited ", limited), func(t *testing.T) {
			const connections = 400
			s := start(t, func(_ *env, c *Config, _ *ListenerConfig) {
				c.MaxConnections, c.MaxIdle, c.MaxIdlePerClient, c.HeadTimeout = connections, 120, 60, 10*time.Minute
				if !limited {
					c.MaxIdle, c.MaxIdlePerClient = 1000, 1000
				}
			})
			ctx, stop := context.WithCancel(t.Context())
			var floods sync.WaitGroup
			for i := range 3 {
				floods.Go(func() { flood(ctx, s.address, fmt.Sprintf("127.0.0.%d", 2+i)) })
			}
			defer floods.Wait()
			defer stop()
			proxytest.Eventually(t, "the flood has what it can get", func() bool {
				if limited {
					return s.count(policy.Overloaded) >= 3*(150-60) && s.server.Connections() <= 300
				}
				return s.server.Connections() >= connections
			})
			passed, began := 0, time.Now()
			for range 50 {
				if s.visit(t, "CONNECT up.test:"+target.Port+" HTTP/1.1\r\n"+good+"\r\n") {
					passed++
				}
			}
			t.Logf("%d of 50 got through in %s", passed, time.Since(began))
			if limited && passed < 50 || !limited && passed > 10 {
				t.Errorf("limited %v: %d of 50 got through", limited, passed)
			}
			if n := s.server.Idle(); limited && n > 120 {
				t.Errorf("%d connections wait", n)
			}
		})
	}
}

// visit opens a tunnel to an echo and sends a word.
func (s *env) visit(t testing.TB, connect string) bool {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, connect+"word"); err != nil {
		return false
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	return strings.HasPrefix(string(got), "HTTP/1.1 200 ") && strings.HasSuffix(string(got), "word")
}

// A full room sends away one of those who have the most in it: who has one keeps
// it, though he came first.
func TestIdleLimitIsFair(t *testing.T) {
	s := start(t, bounded(10, 8))
	first := s.dialFrom(t, "127.0.0.9")
	s.awaitWaiting(t, 1)
	for i := range 40 {
		s.dialFrom(t, fmt.Sprintf("127.0.0.%d", 2+i%2))
	}
	s.awaitWaiting(t, 10)
	first.send("GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n")
	if resp, _ := first.answer("GET"); resp.Header.Get("Sallyport-Reason") == "overloaded" {
		t.Errorf("who had one connection was sent away: %s", resp.Status)
	}
}

func TestIdleLimiterForgetsAddresses(t *testing.T) {
	s := start(t, nil)
	for i := range 20 {
		c := s.dialFrom(t, fmt.Sprintf("127.0.0.%d", 2+i))
		_ = c.Close()
	}
	s.awaitWaiting(t, 0)
	if s.server.idle.EvictOldest(1) {
		t.Error("an address that left has a connection")
	}
}

func TestHostOfIPv6(t *testing.T) {
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	if host(a) != host(b) || host(a) == host(netip.MustParseAddr("2001:db8:0:1::1")) || host(netip.MustParseAddr("10.0.0.1")) == host(netip.MustParseAddr("10.0.0.2")) {
		t.Error("what is one address")
	}
}

// TestRefusedConnectionsAreBounded: connections that were refused and stay open
// for their client to read count as without a request, so that one address cannot
// hold the others out by them.
func TestRefusedConnectionsAreBounded(t *testing.T) {
	s := start(t, func(_ *env, c *Config, _ *ListenerConfig) {
		c.MaxConnections, c.MaxIdle, c.MaxIdlePerClient, c.LingerTimeout = 100, 50, 10, time.Minute
	})
	for range 90 {
		c := s.dialFrom(t, "127.0.0.2").send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, _ := c.answer("GET"); resp.StatusCode != 400 {
			t.Fatal(resp.Status)
		}
	}
	proxytest.Eventually(t, "the oldest are closed", func() bool { return s.server.Idle() <= 10 && s.server.Connections() <= 10 })
	if resp, _ := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n").answer("GET"); resp.StatusCode != 200 {
		t.Errorf("another address: %s", resp.Status)
	}
}

// TestRefusedTooOften: a client that is refused more often than is recorded waits
// for its answer. TestThrottleDelayIsNeeded takes the delay away.
func TestRefusedTooOften(t *testing.T) {
	if n := refusalsWithin(t, 300*time.Millisecond); n > 5+2 {
		t.Errorf("%d refusals", n)
	}
}

func TestThrottleDelayIsNeeded(t *testing.T) {
	if n := refusalsWithin(t, time.Nanosecond); n < 50 {
		t.Errorf("%d refusals", n)
	}
}

// refusalsWithin returns how many of 50 requests during an emergency stop are
// answered within 600 ms, of a client that repeats them without a pause.
func refusalsWithin(t *testing.T, delay time.Duration) (n int) {
	s := start(t, func(s *env, c *Config, _ *ListenerConfig) {
		gate, err := proxy.NewGate(proxy.Config{Authenticator: s, Decider: s, Recorder: s, Resolver: s, Guard: &proxy.Guard{}})
		if err != nil {
			t.Fatal(err)
		}
		gate.Stop()
		c.Gate, c.ThrottleDelay = gate, delay
	})
	// Away from the end of a second, in which the counts begin again.
	proxytest.Eventually(t, "a second has begun", func() bool { return time.Now().Nanosecond() < int(100*time.Millisecond) })
	began := time.Now()
	for time.Since(began) < 600*time.Millisecond && n < 50 {
		if resp, _ := s.dial(t).send("CONNECT up.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT"); resp.Header.Get("Sallyport-Reason") == "emergency_stop" {
			n++
		}
	}
	return n
}
