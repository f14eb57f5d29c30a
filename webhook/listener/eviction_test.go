package listener

import (
	"fmt"
	"net/http"
	"net/netip"
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

// TestOnlyConnectionOfAnAddressStays: with one request in progress for each address, no
// connection is evicted.
func TestOnlyConnectionOfAnAddressStays(t *testing.T) {
	t.Parallel()
	e := newListenerEnv(t, func(c *Config, _ *http.Server) {
		c.MaxConnections = 3
		c.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	answers := make(chan error, 3)
	for i := range 3 {
		conn := e.dial(t, proxyHeader(i))
		go func() {
			text, err := over(conn, "/wait")
			if err == nil && text != "answered" {
				err = fmt.Errorf("answer %q", text)
			}
			answers <- err
		}()
		<-e.entered
	}
	if _, err := over(e.dial(t, proxyHeader(100)), "/hooks/policy"); err == nil {
		t.Error("another address is served")
	}
	close(e.proceed)
	for range 3 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
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
