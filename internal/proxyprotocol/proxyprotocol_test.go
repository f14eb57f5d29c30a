package proxyprotocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// proxy2 makes a version 2 header of a command, a family and what follows.
func version2(command, family byte, rest ...byte) string {
	b := append(slices.Clone(signature), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(append(b, rest...))
}

var (
	ends4 = []byte{203, 0, 113, 9, 10, 0, 0, 1, 0xdd, 0xd5, 0x0c, 0x38}
	ends6 = slices.Concat(netip.MustParseAddr("2001:db8::9").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(), []byte{0xdd, 0xd5, 0x0c, 0x38})
)

// summed adds a checksum (section 2.2.3.3), which is right if delta is 0.
func summed(delta uint32) string {
	raw := []byte(version2(1, 0x11, slices.Concat(ends4, []byte{0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 1, 7})...))
	at := len(signature) + 4 + len(ends4) + 3
	binary.BigEndian.PutUint32(raw[at:], crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))+delta)
	return string(raw)
}

// The sections are those of HAProxy's proxy-protocol.txt.
var headers = []struct {
	source, raw, want string // want: the address, "" for the connection's own
	err               error
}{
	{"2.1", "PROXY TCP4 203.0.113.9 10.0.0.1 56789 3128\r\n", "203.0.113.9:56789", nil},
	{"2.1", "PROXY TCP6 2001:db8::9 2001:db8::1 56789 3128\r\n", "[2001:db8::9]:56789", nil},
	{"2.1, the longest", "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", ErrInvalid},
	{"2.1, a mapped address is IPv4", "PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", "203.0.113.9:1", nil},
	{"2.1", "PROXY UNKNOWN\r\n", "", nil},
	{"2.1", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", nil},
	{"2.1, over 107 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", "", ErrInvalid},
	{"2.1, exactly 107 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n", "", nil},
	{"2.1, families differ", "PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n", "", ErrInvalid},
	{"2.1, families differ", "PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2.1, another family", "PROXY UDP4 203.0.113.9 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2.1, leading zeros", "PROXY TCP4 203.0.113.09 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2.1, leading zeros", "PROXY TCP4 203.0.113.9 10.0.0.1 01 2\r\n", "", ErrInvalid},
	{"2.1, a port out of range", "PROXY TCP4 203.0.113.9 10.0.0.1 65536 2\r\n", "", ErrInvalid},
	{"2.1, a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", "", ErrInvalid},
	{"2.1, two spaces", "PROXY TCP4  203.0.113.9 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2.1, a space at the end", "PROXY TCP4 203.0.113.9 10.0.0.1 1 2 \r\n", "", ErrInvalid},
	{"2.1, too few", "PROXY TCP4 203.0.113.9 10.0.0.1 1\r\n", "", ErrInvalid},
	{"2.1, a bare line feed", "PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n", "", ErrInvalid},
	{"2.1, a line feed among the first bytes", "PROXY TCP\r\nX 203.0.113.9\r\n", "", ErrInvalid},
	{"2.1, a bare carriage return", "PROXY TCP4 203.0.113.9 10.0.0.1 1\r 2\r\n", "", ErrInvalid},
	{"2.1, lower case", "proxy TCP4 203.0.113.9 10.0.0.1 1 2\r\n", "", ErrMissing},
	{"2.1, ends too soon", "PROXY TCP4 203.0.113.9", "", ErrInvalid},
	{"2.1, no client has it", "PROXY TCP4 0.0.0.0 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2.1, no client has it", "PROXY TCP4 224.0.0.1 10.0.0.1 1 2\r\n", "", ErrInvalid},
	{"2, no header", "CONNECT up.test:443 HTTP/1.1\r\n\r\n", "", ErrMissing},
	{"2, no header", "CONN", "", ErrMissing},
	{"2, TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaa", "", ErrMissing},
	{"2, nothing", "", "", io.EOF},

	{"2.2", version2(1, 0x11, ends4...), "203.0.113.9:56789", nil},
	{"2.2", version2(1, 0x21, ends6...), "[2001:db8::9]:56789", nil},
	{"2.2, with extensions", version2(1, 0x11, append(slices.Clone(ends4), 0x04, 0, 2, 1, 2, 0x20, 0, 0)...), "203.0.113.9:56789", nil},
	{"2.2.3.3, a checksum", summed(0), "203.0.113.9:56789", nil},
	{"2.2.3.3, a wrong checksum", summed(1), "", ErrInvalid},
	{"2.2.3.3, a short checksum", version2(1, 0x11, append(slices.Clone(ends4), 0x03, 0, 1, 0)...), "", ErrInvalid},
	{"2.2, an extension that ends too late", version2(1, 0x11, append(slices.Clone(ends4), 0x04, 0, 2, 1)...), "", ErrInvalid},
	{"2.2, half an extension", version2(1, 0x11, append(slices.Clone(ends4), 0x04, 0)...), "", ErrInvalid},
	{"2.2, LOCAL", version2(0, 0x00), "", nil},
	{"2.2, LOCAL with what is to be ignored", version2(0, 0x11, ends4...), "", nil},
	{"2.2, unspecified", version2(1, 0x00), "", nil},
	{"2.2, unspecified", version2(1, 0x00, 1, 2, 3), "", nil},
	{"2.2, UDP", version2(1, 0x12, ends4...), "", ErrInvalid},
	{"2.2, a local socket", version2(1, 0x31, make([]byte, 216)...), "", ErrInvalid},
	{"2.2, too short", version2(1, 0x11, ends4[:11]...), "", ErrInvalid},
	{"2.2, too short", version2(1, 0x21, ends6[:35]...), "", ErrInvalid},
	{"2.2, another command", version2(2, 0x11, ends4...), "", ErrInvalid},
	{"2.2, another version", strings.Replace(version2(1, 0x11, ends4...), "\x21\x11", "\x31\x11", 1), "", ErrInvalid},
	{"2.2, longer than is read", version2(0, 0x00, make([]byte, maxRest+1)...), "", ErrInvalid},
	{"2.2, ends too soon", version2(1, 0x11, ends4...)[:20], "", ErrInvalid},
	{"2.2, ends too soon", version2(1, 0x11, ends4...)[:14], "", ErrInvalid},
	{"2.2, no client has it", version2(1, 0x11, make([]byte, 12)...), "", ErrInvalid},
}

func TestRead(t *testing.T) {
	for _, row := range headers {
		const behind = "CONNECT and so on"
		r := strings.NewReader(row.raw + behind)
		if row.err != nil {
			r.Reset(row.raw)
		}
		got, err := Read(r)
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

// FuzzRead: nothing behind the header is read, the bounds hold, and an
// address that is accepted is a client's and has one reading in both versions.
func FuzzRead(f *testing.F) {
	for _, row := range headers {
		f.Add([]byte(row.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		got, err := Read(r)
		used := raw[:len(raw)-r.Len()]
		if len(used) > len(signature)+4+maxRest {
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
		if again, err := Read(bytes.NewReader(used)); err != nil || again != got {
			t.Fatalf("%q by itself is %s, %v", used, again, err)
		}
		family := "TCP4"
		if a.Is6() {
			family = "TCP6"
		}
		line := fmt.Sprintf("PROXY %s %s %s %d 1\r\n", family, a, a, got.Port())
		if again, err := Read(strings.NewReader(line)); err != nil || again != got {
			t.Fatalf("%q is %s, %v", line, again, err)
		}
	})
}
