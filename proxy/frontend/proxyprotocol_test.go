package frontend

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// proxy2 makes a version 2 header of a command, a family and what follows.
func proxy2(command, family byte, rest ...byte) string {
	b := append(slices.Clone(proxySignature), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(append(b, rest...))
}

var (
	ends4 = []byte{203, 0, 113, 9, 10, 0, 0, 1, 0xdd, 0xd5, 0x0c, 0x38}
	ends6 = slices.Concat(netip.MustParseAddr("2001:db8::9").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(), []byte{0xdd, 0xd5, 0x0c, 0x38})
)

// summed adds a checksum (section 2.2.3.3), which is right if delta is 0.
func summed(delta uint32) string {
	raw := []byte(proxy2(1, 0x11, slices.Concat(ends4, []byte{0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 1, 7})...))
	at := len(proxySignature) + 4 + len(ends4) + 3
	binary.BigEndian.PutUint32(raw[at:], crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))+delta)
	return string(raw)
}

// The sections are those of HAProxy's proxy-protocol.txt.
var proxyHeaders = []struct {
	source, raw, want string // want: the address, "" for the connection's own
	err               error
}{
	{"2.1", "PROXY TCP4 203.0.113.9 10.0.0.1 56789 3128\r\n", "203.0.113.9:56789", nil},
	{"2.1", "PROXY TCP6 2001:db8::9 2001:db8::1 56789 3128\r\n", "[2001:db8::9]:56789", nil},
	{"2.1, the longest", "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", errProxyInvalid},
	{"2.1, a mapped address is IPv4", "PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", "203.0.113.9:1", nil},
	{"2.1", "PROXY UNKNOWN\r\n", "", nil},
	{"2.1", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", nil},
	{"2.1, over 107 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "", errProxyInvalid},
	{"2.1, exactly 107 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n", "", nil},
	{"2.1, families differ", "PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n", "", errProxyInvalid},
	{"2.1, families differ", "PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2.1, another family", "PROXY UDP4 203.0.113.9 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2.1, leading zeros", "PROXY TCP4 203.0.113.09 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2.1, leading zeros", "PROXY TCP4 203.0.113.9 10.0.0.1 01 2\r\n", "", errProxyInvalid},
	{"2.1, a port out of range", "PROXY TCP4 203.0.113.9 10.0.0.1 65536 2\r\n", "", errProxyInvalid},
	{"2.1, a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "", errProxyInvalid},
	{"2.1, two spaces", "PROXY TCP4  203.0.113.9 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2.1, a space at the end", "PROXY TCP4 203.0.113.9 10.0.0.1 1 2 \r\n", "", errProxyInvalid},
	{"2.1, too few", "PROXY TCP4 203.0.113.9 10.0.0.1 1\r\n", "", errProxyInvalid},
	{"2.1, a bare line feed", "PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n", "", errProxyInvalid},
	{"2.1, a line feed among the first bytes", "PROXY TCP\r\nX 203.0.113.9\r\n", "", errProxyInvalid},
	{"2.1, a bare carriage return", "PROXY TCP4 203.0.113.9 10.0.0.1 1\r 2\r\n", "", errProxyInvalid},
	{"2.1, lower case", "proxy TCP4 203.0.113.9 10.0.0.1 1 2\r\n", "", errProxyMissing},
	{"2.1, ends too soon", "PROXY TCP4 203.0.113.9", "", errProxyInvalid},
	{"2.1, no client has it", "PROXY TCP4 0.0.0.0 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2.1, no client has it", "PROXY TCP4 224.0.0.1 10.0.0.1 1 2\r\n", "", errProxyInvalid},
	{"2, no header", "CONNECT up.test:443 HTTP/1.1\r\n\r\n", "", errProxyMissing},
	{"2, no header", "CONN", "", errProxyMissing},
	{"2, TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaa", "", errProxyMissing},
	{"2, nothing", "", "", io.EOF},

	{"2.2", proxy2(1, 0x11, ends4...), "203.0.113.9:56789", nil},
	{"2.2", proxy2(1, 0x21, ends6...), "[2001:db8::9]:56789", nil},
	{"2.2, with extensions", proxy2(1, 0x11, append(slices.Clone(ends4), 0x04, 0, 2, 1, 2, 0x20, 0, 0)...), "203.0.113.9:56789", nil},
	{"2.2.3.3, a checksum", summed(0), "203.0.113.9:56789", nil},
	{"2.2.3.3, a wrong checksum", summed(1), "", errProxyInvalid},
	{"2.2.3.3, a short checksum", proxy2(1, 0x11, append(slices.Clone(ends4), 0x03, 0, 1, 0)...), "", errProxyInvalid},
	{"2.2, an extension that ends too late", proxy2(1, 0x11, append(slices.Clone(ends4), 0x04, 0, 2, 1)...), "", errProxyInvalid},
	{"2.2, half an extension", proxy2(1, 0x11, append(slices.Clone(ends4), 0x04, 0)...), "", errProxyInvalid},
	{"2.2, LOCAL", proxy2(0, 0x00), "", nil},
	{"2.2, LOCAL with what is to be ignored", proxy2(0, 0x11, ends4...), "", nil},
	{"2.2, unspecified", proxy2(1, 0x00), "", nil},
	{"2.2, unspecified", proxy2(1, 0x00, 1, 2, 3), "", nil},
	{"2.2, UDP", proxy2(1, 0x12, ends4...), "", errProxyInvalid},
	{"2.2, a local socket", proxy2(1, 0x31, make([]byte, 216)...), "", errProxyInvalid},
	{"2.2, too short", proxy2(1, 0x11, ends4[:11]...), "", errProxyInvalid},
	{"2.2, too short", proxy2(1, 0x21, ends6[:35]...), "", errProxyInvalid},
	{"2.2, another command", proxy2(2, 0x11, ends4...), "", errProxyInvalid},
	{"2.2, another version", strings.Replace(proxy2(1, 0x11, ends4...), "\x21\x11", "\x31\x11", 1), "", errProxyInvalid},
	{"2.2, longer than is read", proxy2(0, 0x00, make([]byte, maxProxyRest+1)...), "", errProxyInvalid},
	{"2.2, ends too soon", proxy2(1, 0x11, ends4...)[:20], "", errProxyInvalid},
	{"2.2, ends too soon", proxy2(1, 0x11, ends4...)[:14], "", errProxyInvalid},
	{"2.2, no client has it", proxy2(1, 0x11, make([]byte, 12)...), "", errProxyInvalid},
}

func TestReadProxyHeader(t *testing.T) {
	for _, row := range proxyHeaders {
		const behind = "CONNECT and so on"
		r := strings.NewReader(row.raw + behind)
		if row.err != nil {
			r.Reset(row.raw)
		}
		got, err := readProxyHeader(r)
		if !errors.Is(err, row.err) {
			t.Errorf("%s: %q: %v, want %v", row.source, row.raw, err, row.err)
			continue
		}
		if (row.want == "") == got.IsValid() || got.IsValid() && got.String() != row.want {
			t.Errorf("%s: %q: %s, want %s", row.source, row.raw, got, row.want)
		}
		if err == nil && r.Len() != len(behind) {
			t.Errorf("%s: %q: %d bytes are left, want %d", row.source, row.raw, r.Len(), len(behind))
		}
	}
}

// FuzzProxyHeader: nothing behind the header is read, the bounds hold, and an
// address that is accepted is a client's and has one reading in both versions.
func FuzzProxyHeader(f *testing.F) {
	for _, row := range proxyHeaders {
		f.Add([]byte(row.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		got, err := readProxyHeader(r)
		used := raw[:len(raw)-r.Len()]
		if len(used) > len(proxySignature)+4+maxProxyRest {
			t.Fatalf("read %d bytes", len(used))
		}
		if err != nil || !got.IsValid() {
			if got.IsValid() {
				t.Fatalf("both %s and %v", got, err)
			}
			return
		}
		a := got.Addr()
		if a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			t.Fatalf("accepted %s", got)
		}
		if again, err := readProxyHeader(bytes.NewReader(used)); err != nil || again != got {
			t.Fatalf("%q by itself is %s, %v", used, again, err)
		}
		family := "TCP4"
		if a.Is6() {
			family = "TCP6"
		}
		line := fmt.Sprintf("PROXY %s %s %s %d 1\r\n", family, a, a, got.Port())
		if again, err := readProxyHeader(strings.NewReader(line)); err != nil || again != got {
			t.Fatalf("%q is %s, %v", line, again, err)
		}
	})
}

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
		{proxy2(1, 0x21, ends6...), "2001:db8::9"},
		{proxy2(0, 0x00), "127.0.0.1"},
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
	for _, header := range []string{"PROXY TCP4 203.0.113.9 10.0.0.1 56789 3128\r\n", proxy2(1, 0x11, ends4...)} {
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
		proxy2(1, 0x31, make([]byte, 216)...),
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
