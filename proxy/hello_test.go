package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// sink is a connection that keeps what is written and answers nothing.
type sink struct {
	net.Conn
	out bytes.Buffer
	in  io.Reader
}

func (s *sink) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *sink) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *sink) Close() error                     { return nil }
func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// clientHello is what crypto/tls really sends, in one record.
func clientHello(name string, change ...func(*tls.Config)) []byte {
	// One small key share: a post-quantum one makes the hello three times as long.
	c := &tls.Config{ServerName: name, InsecureSkipVerify: name == "", CurvePreferences: []tls.CurveID{tls.X25519}}
	for _, f := range change {
		f(c)
	}
	s := &sink{in: strings.NewReader("")}
	_ = tls.Client(s, c).Handshake()
	return s.out.Bytes()
}

// built makes a ClientHello by hand, in one record.
func built(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0) // no session, one suite, no compression
	if extensions != nil {
		body = append(body, vector(2, slices.Concat(extensions...))...)
	}
	return record(22, append([]byte{1}, vector(3, body)...))
}

func vector(size int, b []byte) []byte {
	var out []byte
	for i := size - 1; i >= 0; i-- {
		out = append(out, byte(len(b)>>(8*i)))
	}
	return append(out, b...)
}

func record(kind byte, b []byte) []byte { return append([]byte{kind, 3, 1}, vector(2, b)...) }

func extension(kind uint16, data []byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind)}, vector(2, data)...)
}

func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, append([]byte{0}, vector(2, []byte(n))...)...)
	}
	return extension(0, vector(2, list))
}

// fragmented cuts a hello into records of so many bytes each.
func fragmented(hello []byte, size int) (out []byte) {
	for part := range slices.Chunk(hello[5:], size) {
		out = append(out, record(22, part)...)
	}
	return out
}

func TestParseHello(t *testing.T) {
	const host = "api.partner.example"
	real := clientHello(host)
	tests := []struct {
		name, source string
		in           []byte
		want         hello
		err          error
	}{
		{"as crypto/tls sends it", "RFC 8446 4.1.2", real, hello{name: host}, nil},
		{"with a post-quantum key share", "draft-ietf-tls-ecdhe-mlkem", clientHello(host, func(c *tls.Config) { c.CurvePreferences = nil }), hello{name: host}, nil},
		{"TLS 1.2 only", "RFC 5246 7.4.1.2", clientHello(host, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), hello{name: host}, nil},
		{"in records of one byte", "RFC 8446 5.1", fragmented(real, 1), hello{name: host}, nil},
		{"in records of seven bytes", "RFC 8446 5.1", fragmented(real, 7), hello{name: host}, nil},
		{"by hand", "RFC 6066 3", built(sni(host)), hello{name: host}, nil},
		{"upper case stays as it is", "RFC 6066 3", built(sni("API.partner.example")), hello{name: "API.partner.example"}, nil},
		{"GREASE extensions", "RFC 8701", built(extension(0x0a0a, nil), sni(host), extension(0x1a1a, []byte{0})), hello{name: host}, nil},
		{"application data behind it", "RFC 8446 2.3: early data", append(built(sni(host)), record(23, []byte("early"))...), hello{name: host}, nil},
		{"change_cipher_spec behind it", "RFC 8446 D.4", append(built(sni(host)), record(20, []byte{1})...), hello{name: host}, nil},
		{"garbage behind it", "is for the target to judge", append(built(sni(host)), 0xff, 0xff), hello{name: host}, nil},

		{"no extensions", "RFC 8446 4.1.2", built(), hello{}, nil},
		{"empty extensions", "RFC 8446 4.1.2", built([]byte{}), hello{}, nil},
		{"no server_name", "RFC 6066 3", built(extension(43, []byte{2, 3, 4})), hello{}, nil},
		{"two server_name extensions", "RFC 8446 4.2", built(sni(host), sni("evil.example")), hello{}, errHelloInvalid},
		{"any extension twice", "RFC 8446 4.2", built(sni(host), extension(43, nil), extension(43, nil)), hello{}, errHelloInvalid},
		{"two names in the list", "RFC 6066 3", built(sni(host, "evil.example")), hello{}, errHelloInvalid},
		{"the same name twice", "RFC 6066 3", built(sni(host, host)), hello{}, errHelloInvalid},
		{"an empty list", "RFC 6066 3", built(extension(0, vector(2, nil))), hello{}, errHelloInvalid},
		{"an empty name", "RFC 6066 3", built(sni("")), hello{}, errHelloInvalid},
		{"an empty extension", "RFC 6066 3", built(extension(0, nil)), hello{}, errHelloInvalid},
		{"another name type", "RFC 6066 3", built(extension(0, vector(2, append([]byte{1}, vector(2, []byte(host))...)))), hello{}, errHelloInvalid},
		{"another name type behind it", "RFC 6066 3", built(extension(0, vector(2, slices.Concat([]byte{0}, vector(2, []byte(host)), []byte{1}, vector(2, []byte("x")))))), hello{}, errHelloInvalid},
		{"bytes behind the list", "RFC 8446 3.4", built(extension(0, append(vector(2, append([]byte{0}, vector(2, []byte(host))...)), 0))), hello{}, errHelloInvalid},
		{"a list that is too long", "RFC 8446 3.4", built(extension(0, []byte{0, 9, 0, 0, 1, 'a'})), hello{}, errHelloInvalid},
		{"ECH", "RFC 9849", built(sni("public.example"), extension(0xfe0d, []byte{0})), hello{"public.example", true}, nil},
		{"ECH before the name", "RFC 9849", built(extension(0xfe0d, []byte{1}), sni(host)), hello{host, true}, nil},
		{"ECH without a name", "RFC 9849", built(extension(0xfe0d, nil)), hello{"", true}, nil},
		{"ECH and two names", "RFC 8446 4.2", built(extension(0xfe0d, nil), sni(host), sni("evil.example")), hello{}, errHelloInvalid},
		{"ECH twice", "RFC 8446 4.2", built(extension(0xfe0d, nil), sni(host), extension(0xfe0d, nil)), hello{}, errHelloInvalid},

		{"HTTP", "not TLS", []byte("GET / HTTP/1.1\r\n"), hello{}, errHelloInvalid},
		{"SSH", "not TLS", []byte("SSH-2.0-x\r\n"), hello{}, errHelloInvalid},
		{"zeros", "not TLS", make([]byte, 64), hello{}, errHelloInvalid},
		{"SSLv2 hello", "RFC 5246 E.2", []byte{0x80, 0x2e, 1, 3, 1, 0, 0x15}, hello{}, errHelloInvalid},
		{"an alert", "RFC 8446 6", record(21, []byte{1, 0}), hello{}, errHelloInvalid},
		{"application data", "RFC 8446 5.1", record(23, []byte("x")), hello{}, errHelloInvalid},
		{"a ServerHello", "RFC 8446 4", record(22, []byte{2, 0, 0, 0}), hello{}, errHelloInvalid},
		{"a HelloRequest, empty", "RFC 5246 7.4.1.1", record(22, []byte{0, 0, 0, 0}), hello{}, errHelloInvalid},
		{"another major version", "RFC 8446 5.1", []byte{22, 2}, hello{}, errHelloInvalid},
		{"another minor version", "RFC 8446 5.1", []byte{22, 3, 5}, hello{}, errHelloInvalid},
		{"an empty record", "RFC 8446 5.1", record(22, nil), hello{}, errHelloInvalid},
		{"an empty record in between", "RFC 8446 5.1", append(fragmented(real, 100)[:105], record(22, nil)...), hello{}, errHelloInvalid},
		{"another type in between", "RFC 8446 5.1", append(fragmented(real, 100)[:105], record(20, []byte{1})...), hello{}, errHelloInvalid},
		{"a record over the limit", "RFC 8446 5.1", []byte{22, 3, 1, 0x40, 1}, hello{}, errHelloInvalid},
		{"a message over the limit", "16 KiB", []byte{22, 3, 1, 0, 4, 1, 0, 0x40, 0}, hello{}, errHelloTooLarge},
		{"a message of 16 MiB", "16 KiB", []byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, hello{}, errHelloTooLarge},
		{"small, in too many records", "16 KiB", fragmented(built(sni(host), extension(21, make([]byte, 3000))), 1), hello{}, errHelloTooLarge},
		{"a second message in the record", "RFC 8446 5.1", record(22, append(built(sni(host))[5:], 1, 0, 0, 0)), hello{}, errHelloInvalid},
		{"an empty message", "RFC 8446 4.1.2", record(22, []byte{1, 0, 0, 0}), hello{}, errHelloInvalid},
		{"bytes behind the extensions", "RFC 8446 3.4", record(22, append([]byte{1}, vector(3, append(built(sni(host))[9:], 0))...)), hello{}, errHelloInvalid},
		{"an extension that is too long", "RFC 8446 4.2", built([]byte{0, 0, 0, 9, 1}), hello{}, errHelloInvalid},
		{"half an extension", "RFC 8446 4.2", built([]byte{0, 0, 0}), hello{}, errHelloInvalid},
		{"nothing", "", nil, hello{}, errHelloMore},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseHello(test.in)
			if got != test.want || err != test.err {
				t.Fatalf("%s: %+v, %v; want %+v, %v", test.source, got, err, test.want, test.err)
			}
			checkChunks(t, test.in)
			checkAgainstTLS(t, test.in)
		})
	}
	if len(fragmented(real, 1)) < 6*len(real)-40 {
		t.Error("the hello was not fragmented")
	}
}

// checkChunks checks that the result for some bytes does not depend on how they arrive:
// each prefix is either not complete or already has the final answer.
func checkChunks(t *testing.T, b []byte) {
	t.Helper()
	whole, err := parseHello(b)
	for i := 0; i < len(b); i += 1 + len(b)/2048 {
		if n, e := parseHello(b[:i]); e != errHelloMore && (n != whole || e != err) {
			t.Fatalf("the first %d bytes of %d are %+v, %v; all are %+v, %v", i, len(b), n, e, whole, err)
		}
	}
}

// checkAgainstTLS holds that where we read a name, or none, a real server reads the same.
func checkAgainstTLS(t *testing.T, b []byte) {
	t.Helper()
	ours, err := parseHello(b)
	if err != nil {
		return
	}
	stop := errors.New("seen")
	server := tls.Server(&sink{in: bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != ours.name {
			t.Errorf("crypto/tls reads %q, we read %q", hello.ServerName, ours.name)
		}
		return nil, stop
	}})
	_ = server.Handshake()
}

func TestHelloAtTheLimit(t *testing.T) {
	fit := func(total int) []byte {
		bare := len(built(sni("a.example"), extension(21, nil)))
		return built(sni("a.example"), extension(21, make([]byte, total-bare)))
	}
	for total, want := range map[int]error{maxHello: nil, maxHello + 1: errHelloTooLarge} {
		hello := fit(total)
		if len(hello) != total {
			t.Fatal("the test builds it wrong")
		}
		if _, err := parseHello(hello); err != want {
			t.Errorf("%d bytes at once: %v, want %v", total, err, want)
		}
		if _, err := parseHello(hello[:maxHello]); err != want {
			t.Errorf("%d bytes, cut: %v, want %v", total, err, want)
		}
	}
}

// FuzzHello: nothing is read differently by a real server, and nothing depends
// on how it was cut.
func FuzzHello(f *testing.F) {
	real := clientHello("api.partner.example")
	for _, b := range [][]byte{
		real, fragmented(real, 50), built(), built(sni("a.example")), built(sni("a.example", "b.example")), built(extension(0xfe0d, nil), sni("a.example")),
		append(built(sni("a.example")), record(22, []byte{1, 0, 0, 0})...), record(22, []byte{1, 0, 0, 0}), []byte("GET / HTTP/1.1\r\n"), {0x80, 0x2e, 1},
		clientHello(""), clientHello("x.example", func(c *tls.Config) { c.NextProtos = []string{"h2"}; c.MinVersion = tls.VersionTLS13 }),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4<<10 {
			b = b[:4<<10]
		}
		checkChunks(t, b)
		checkAgainstTLS(t, b)
	})
}

func BenchmarkParseHello(b *testing.B) {
	real := clientHello("api.partner.example")
	for name, hello := range map[string][]byte{"whole": real, "fragmented": fragmented(real, 100)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseHello(hello); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
