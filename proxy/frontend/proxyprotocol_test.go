package frontend

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/proxytest"
)

// version2 makes a header of the PROXY protocol's version 2: a command, a family and what
// follows.
func version2(command, family byte, rest ...byte) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(append(b, rest...))
}

var (
	ends4 = []byte{203, 0, 113, 9, 10, 0, 0, 1, 0xdd, 0xd5, 0x0c, 0x38}
	ends6 = slices.Concat(netip.MustParseAddr("2001:db8::9").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(), []byte{0xdd, 0xd5, 0x0c, 0x38})
)

func from(networks ...string) func(*env, *Config, *ListenerConfig) {
	return func(_ *env, c *Config, lc *ListenerConfig) {
		c.HeadTimeout = 300 * time.Millisecond
		for _, n := range networks {
			lc.ProxyProtocolFrom = append(lc.ProxyProtocolFrom, netip.MustParsePrefix(n))
		}
	}
}

// TestProxyProtocol: the address that a configured peer sends is the client's, for policy
// and for the event, which names the peer too. The header precedes TLS.
func TestProxyProtocol(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	for _, test := range []struct{ header, client string }{
		{"PROXY TCP4 203.0.113.9 10.0.0.1 56789 3128\r\n", "203.0.113.9"},
		{version2(1, 0x21, ends6...), "2001:db8::9"},
		{version2(0, 0x00), "127.0.0.1"},
		{"PROXY UNKNOWN\r\n", "127.0.0.1"},
	} {
		for _, secure := range []bool{false, true} {
			s := start(t, func(s *env, c *Config, lc *ListenerConfig) {
				from("10.0.0.0/8", "127.0.0.0/8")(s, c, lc)
				c.HeadTimeout = 10 * time.Second
				if secure {
					s.tls, lc.TLS = certificate(t)
				}
			})
			raw, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(raw, test.header)
			c := s.over(t, raw)
			c.send("CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n")
			if resp, _ := c.answer("CONNECT"); resp.StatusCode != 200 {
				t.Fatalf("%q: %s", test.header, resp.Status)
			}
			c.send("through")
			_ = c.CloseWrite()
			if got := c.rest(); got != "through" {
				t.Errorf("%q: through the tunnel came %q", test.header, got)
			}
			events := s.await(t, 2)
			want := audit.Attribute{Name: "proxy_protocol_peer", Value: "127.0.0.1"}
			if e := events[0]; e.ClientAddress.String() != test.client || !slices.Contains(e.Attributes, want) {
				t.Errorf("%q: the event has %s, %v", test.header, e.ClientAddress, e.Attributes)
			}
			if s.requests[0].ClientAddress.String() != test.client {
				t.Errorf("%q: policy saw %s", test.header, s.requests[0].ClientAddress)
			}
		}
	}
}

// over is a client on a connection that was already used.
func (s *env) over(t testing.TB, raw net.Conn) *client {
	t.Helper()
	c := newClient(t, raw.(*net.TCPConn))
	if s.tls != nil {
		c = newClient(t, tls.Client(raw, s.tls))
	}
	return c
}

// TestProxyProtocolFromOtherNetworksIsRefused is the attack: a client that is not a configured peer
// sends another address. It is a malformed head. On a listener that trusts its network
// the same bytes succeed.
func TestProxyProtocolFromOtherNetworksIsRefused(t *testing.T) {
	target := proxytest.Serve(t, proxytest.Echo)
	connect := "CONNECT up.test:" + target.Port + " HTTP/1.1\r\n" + good + "\r\n"
	for _, header := range []string{"PROXY TCP4 203.0.113.9 10.0.0.1 56789 3128\r\n", version2(1, 0x11, ends4...)} {
		for name, change := range map[string]func(*env, *Config, *ListenerConfig){"none": nil, "others": from("10.0.0.0/8", "2001:db8::/32")} {
			s := start(t, change)
			resp, _ := s.dial(t).send(header + connect).answer("CONNECT")
			if resp.StatusCode != 400 || resp.Header.Get("Sallyport-Reason") != "request_invalid" || len(s.kinds()) != 0 {
				t.Errorf("%s configured: %s %v", name, resp.Status, s.kinds())
			}
		}
		trusting := start(t, from("127.0.0.0/8"))
		if resp, _ := trusting.dial(t).send(header + connect).answer("CONNECT"); resp.StatusCode != 200 || trusting.await(t, 1)[0].ClientAddress.String() != "203.0.113.9" {
			t.Errorf("on a listener that trusts the network: %s", resp.Status)
		}
	}
}

// A configured peer has to send the header, whole, in time, and first.
func TestProxyProtocolRequired(t *testing.T) {
	s := start(t, from("127.0.0.1/32"))
	for _, raw := range []string{
		"GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n" + good + "\r\n",
		"PROXY TCP4 203.0.113.9 10.0.0.1 0x1 2\r\n",
		version2(1, 0x31, make([]byte, 216)...),
	} {
		resp, body := s.dial(t).send(raw).answer("GET")
		if resp.StatusCode != 400 || !strings.Contains(body, "PROXY protocol") {
			t.Errorf("%q: %s %s", raw, resp.Status, body)
		}
	}
	// One header, not two: the second is a head.
	header := "PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n"
	if resp, _ := s.dial(t).send(header + header + "\r\n").answer("GET"); resp.StatusCode != 400 {
		t.Errorf("two headers: %s", resp.Status)
	}
	// One that comes too slowly is cut off, without an answer.
	if got := s.dial(t).send("PROXY TCP4 ").rest(); got != "" {
		t.Errorf("a slow peer got %q", got)
	}
	// A health check that connects and goes leaves nothing behind.
	_ = s.dial(t).Close()
	if len(s.kinds()) != 0 {
		t.Errorf("events: %v", s.kinds())
	}
}
