package listener

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/proxytest"
)

// withoutEviction makes a server refuse new connections at the total limit.
func withoutEviction(s *Server) { s.evict = func() bool { return false } }

// flooded is a server whose connections ten addresses have taken: they are silent, or have a
// request in progress that does not end.
func flooded(t *testing.T, busy bool, prepare ...func(*Server)) *listenerEnv {
	t.Helper()
	e := newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections, c.MaxPerClient = 20, 2
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}, prepare...)
	t.Cleanup(func() { close(e.proceed) })
	for i := range 20 {
		conn := e.dial(t, proxyHeader(i%10))
		if err := conn.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if busy {
			if _, err := fmt.Fprint(conn, "POST /wait HTTP/1.1\r\nHost: hooks.example\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			<-e.entered
		}
	}
	held := e.idle
	if busy {
		held = e.busy
	}
	proxytest.Eventually(t, "all connections are taken", func() bool { return held.Len() == 20 && e.Stats().Connections == 20 })
	return e
}

func proxyHeader(last int) string {
	return fmt.Sprintf("PROXY TCP4 203.0.113.%d 10.0.0.1 1 443\r\n", last)
}

// TestTenAddressesKeepNobodyOut: at the total limit, the address with the most connections
// loses its oldest, whether they are silent or send slow bodies.
func TestTenAddressesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"silent": false, "slow bodies": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := flooded(t, busy)
			for i := range 10 {
				conn := e.dial(t, proxyHeader(100+i))
				if _, err := over(conn, "/hooks/policy"); err != nil {
					t.Fatalf("address %d is kept out: %v", i, err)
				}
				if n := e.Stats().Connections; n > 20 {
					t.Errorf("%d connections", n)
				}
			}
			if e.Stats().Refused != 10 {
				t.Errorf("%d connections are evicted", e.Stats().Refused)
			}
			_ = e.http.Close()
			proxytest.Eventually(t, "connections remain", func() bool { return e.Stats().Connections == 0 })
		})
	}
}

// TestEvictionIsNeeded: without it, ten addresses keep all others out.
func TestEvictionIsNeeded(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"silent": false, "slow bodies": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := flooded(t, busy, withoutEviction)
			if _, err := over(e.dial(t, proxyHeader(100)), "/hooks/policy"); err == nil {
				t.Error("another address is served")
			}
		})
	}
}

// floodedByMany is a server whose connections as many addresses have taken, each with one slow
// body, and one verified request among them.
func floodedByMany(t *testing.T, prepare ...func(*Server)) (e *listenerEnv, release func(), verified <-chan error) {
	t.Helper()
	inProgress, proceed := make(chan struct{}, 1), make(chan struct{})
	e = newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections, c.MaxPerClient = 20, 2
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Handlers["/verified"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Verified(r.Context())
			Verified(r.Context()) // once more changes nothing
			inProgress <- struct{}{}
			<-proceed
			_, _ = fmt.Fprint(w, "answered")
		})
	}, prepare...)
	t.Cleanup(func() { close(e.proceed) })
	result := make(chan error, 1)
	conn := e.dial(t, proxyHeader(200))
	go func() {
		text, err := over(conn, "/verified")
		if err == nil && text != "answered" {
			err = fmt.Errorf("answer %q", text)
		}
		result <- err
	}()
	<-inProgress
	for i := range 19 {
		slowBody(t, e, i)
	}
	proxytest.Eventually(t, "all connections are taken", func() bool { return e.busy.Len() == 19 && e.Stats().Connections == 20 })
	var once sync.Once
	release = func() { once.Do(func() { close(proceed) }) }
	t.Cleanup(release)
	return e, release, result
}

// slowBody opens a connection of an address and begins a request whose body does not end.
func slowBody(t *testing.T, e *listenerEnv, address int) {
	t.Helper()
	conn := e.dial(t, proxyHeader(address))
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "POST /wait HTTP/1.1\r\nHost: hooks.example\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	<-e.entered
}

// TestManyAddressesKeepNobodyOut: attackers with as many addresses as there may be
// connections, each with one slow body, keep neither a new sender nor a verified request out,
// also while they open further connections.
func TestManyAddressesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	e, release, verified := floodedByMany(t)
	for i := range 10 {
		if _, err := over(e.dial(t, proxyHeader(100+i)), "/hooks/policy"); err != nil {
			t.Fatalf("address %d is kept out: %v", i, err)
		}
		slowBody(t, e, 30+i)
	}
	release()
	if err := <-verified; err != nil {
		t.Errorf("the verified request: %v", err)
	}
	_ = e.http.Close()
	proxytest.Eventually(t, "connections remain", func() bool { return e.Stats().Connections == 0 && e.busy.Len() == 0 })
}

// TestEvictionOfTheOnlyConnectionIsNeeded: if an address keeps its only connection, attackers
// with many addresses keep all others out.
func TestEvictionOfTheOnlyConnectionIsNeeded(t *testing.T) {
	t.Parallel()
	e, release, verified := floodedByMany(t, func(s *Server) { s.evict = func() bool { return s.idle.EvictOldest(1) || s.busy.EvictOldest(2) } })
	if _, err := over(e.dial(t, proxyHeader(100)), "/hooks/policy"); err == nil {
		t.Error("another address is served")
	}
	release()
	if err := <-verified; err != nil {
		t.Errorf("the verified request: %v", err)
	}
}

// TestVerifiedRequestStays: with one verified request for each connection, none is evicted.
func TestVerifiedRequestStays(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	e := newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections = 3
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Handlers["/verified"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			Verified(r.Context())
			entered <- struct{}{}
			<-proceed
			_, _ = fmt.Fprint(w, "answered")
		})
	})
	answers := make(chan error, 3)
	for i := range 3 {
		conn := e.dial(t, proxyHeader(i))
		go func() {
			text, err := over(conn, "/verified")
			if err == nil && text != "answered" {
				err = fmt.Errorf("answer %q", text)
			}
			answers <- err
		}()
		<-entered
	}
	if _, err := over(e.dial(t, proxyHeader(100)), "/hooks/policy"); err == nil {
		t.Error("another address is served")
	}
	close(proceed)
	for range 3 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	Verified(t.Context()) // a request of another server
}

// TestConnectionClosed: a handler learns that the connection of a request has closed, over
// HTTP/1.1 and HTTP/2, also after it has responded.
func TestConnectionClosed(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		channels := make(chan (<-chan struct{}), 1)
		e := newListenerEnv(t, func(c *Config, _ *http.Server) {
			c.Handlers["/hooks/policy"] = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { channels <- ConnectionClosed(r.Context()) })
		})
		transport := &http.Transport{TLSClientConfig: e.client.Clone(), ForceAttemptHTTP2: http2}
		response, err := transport.RoundTrip(e.request(t, "/hooks/policy"))
		if err != nil {
			t.Fatal(err)
		}
		if response.ProtoMajor != map[bool]int{false: 1, true: 2}[http2] {
			t.Fatal(response.Proto)
		}
		_ = response.Body.Close()
		closed := <-channels
		select {
		case <-closed:
			t.Error("the connection is open, and closed is reported")
		default:
		}
		transport.CloseIdleConnections()
		select {
		case <-closed:
		case <-time.After(time.Minute):
			t.Error("the closed connection is not reported")
		}
	}
	if ConnectionClosed(t.Context()) != nil {
		t.Error("a request of another server has a connection")
	}
}
