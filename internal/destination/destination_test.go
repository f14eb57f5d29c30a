package destination_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

// label returns a label of n bytes.
func label(n int) string { return strings.Repeat("a", n) }

// name returns a name of n bytes, in labels of at most 63.
func name(n int) string {
	var b strings.Builder
	for b.Len() < n {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(label(min(63, n-b.Len())))
	}
	return b.String()
}

func TestParseAuthorityAccepts(t *testing.T) {
	for _, test := range []struct{ why, in, host, want string }{
		{"RFC 9110 9.3.6", "api.partner.example:443", "api.partner.example", "api.partner.example:443"},
		{"RFC 4343: names have no case", "API.Partner.EXAMPLE:443", "api.partner.example", "api.partner.example:443"},
		{"CVE-2022-24825: a trailing dot is the same name", "api.partner.example.:443", "api.partner.example", "api.partner.example:443"},
		{"one label is a name", "localhost:8080", "localhost", "localhost:8080"},
		{"RFC 8552: underscores are real", "_sip._tcp.partner.example:5061", "_sip._tcp.partner.example", "_sip._tcp.partner.example:5061"},
		{"RFC 5890: an A-label is ASCII", "xn--bcher-kva.example:443", "xn--bcher-kva.example", "xn--bcher-kva.example:443"},
		{"RFC 5891 4.2.3.1 is about registration: hyphens in 3 and 4 exist", "r3---sn-4g5e6nez.video.example:443", "r3---sn-4g5e6nez.video.example", "r3---sn-4g5e6nez.video.example:443"},
		{"RFC 1123 2.1: a label may begin with a digit", "3com.example:80", "3com.example", "3com.example:80"},
		{"WHATWG ends-in-a-number: the last label decides", "0x7f.1.example:80", "0x7f.1.example", "0x7f.1.example:80"},
		{"WHATWG: hex digits without 0x are a name", "deadbeef:80", "deadbeef", "deadbeef:80"},
		{"WHATWG: 0x and something else is a name", "a.0xyz:80", "a.0xyz", "a.0xyz:80"},
		{"RFC 1035 2.3.4: 63 bytes in a label", label(63) + ".example:443", label(63) + ".example", label(63) + ".example:443"},
		{"RFC 1035 2.3.4: 253 bytes in a name", name(253) + ":443", name(253), name(253) + ":443"},
		{"RFC 1035 2.3.4: 253 bytes and the trailing dot", name(253) + ".:443", name(253), name(253) + ":443"},
		{"RFC 3986 3.2.2: dotted quad", "127.0.0.1:80", "127.0.0.1", "127.0.0.1:80"},
		{"RFC 3986 3.2.2: all zeros are an address", "0.0.0.0:80", "0.0.0.0", "0.0.0.0:80"},
		{"RFC 5952: IPv6 in brackets", "[2001:db8::1]:443", "2001:db8::1", "[2001:db8::1]:443"},
		{"RFC 5952: unspecified", "[::]:443", "::", "[::]:443"},
		{"IPv4-compatible, canonical in hexadecimal", "[::102:304]:443", "::102:304", "[::102:304]:443"},
		{"the least port", "a.example:1", "a.example", "a.example:1"},
		{"the greatest port", "a.example:65535", "a.example", "a.example:65535"},
	} {
		got, err := destination.ParseAuthority(test.in)
		if err != nil {
			t.Errorf("%s: %q: %v", test.why, test.in, err)
			continue
		}
		if got.Host != test.host || got.String() != test.want || got.Scheme != "" {
			t.Errorf("%s: %q = %+v (%s), want host %q, %q", test.why, test.in, got, got, test.host, test.want)
		}
		addr, _ := netip.ParseAddr(test.host)
		if got.Addr != addr || got.IsAddress() != addr.IsValid() {
			t.Errorf("%s: %q: address %v, want %v", test.why, test.in, got.Addr, addr)
		}
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	for _, test := range []struct {
		why, in string
		want    destination.Problem
		says    string
	}{
		{"RFC 9110 9.3.6: no default port", "a.example", destination.ProblemPort, "has no port"},
		{"net/http makes this localhost", "/", destination.ProblemForm, "host:port"},
		{"net/http makes this localhost", ":443", destination.ProblemHost, "host is empty"},
		{"empty", "", destination.ProblemForm, "empty"},
		{"RFC 9112 3.2.3: uri-host is not empty", ":", destination.ProblemHost, "empty"},
		{"RFC 9112 3.2.3: port is not optional", "a.example:", destination.ProblemPort, "port is empty"},
		{"RFC 9112 3.2.3: port is not optional", "[::1]", destination.ProblemPort, "has no port"},
		{"RFC 9112 3.2.3: no scheme", "https://a.example:443", destination.ProblemForm, "is a URL"},
		{"RFC 9112 3.2.3: no path", "a.example:443/", destination.ProblemForm, "more than a host"},
		{"RFC 9112 3.2.3: no query", "a.example:443?x", destination.ProblemForm, "more than a host"},
		{"RFC 9112 3.2.3: no fragment", "a.example:443#x", destination.ProblemForm, "more than a host"},
		{"RFC 9110 4.2.4: userinfo", "user:hunter2@a.example:443", destination.ProblemUserinfo, "user information"},
		{"RFC 9110 4.2.4: userinfo that is a host", "a.example:443@b.example:443", destination.ProblemUserinfo, "user information"},
		{"RFC 9110 4.2.4: userinfo in a URL", "https://user:hunter2@a.example", destination.ProblemUserinfo, "user information"},
		{"WHATWG: a backslash is a slash", `a.example\b.example:443`, destination.ProblemByte, `\\`},
		{"WHATWG: a backslash is a slash", `a.example\@b.example:443`, destination.ProblemUserinfo, "user"},
		{"RFC 3986 3.2.2 allows escapes; nobody agrees on them", "%61.example:443", destination.ProblemByte, "percent"},
		{"escaped NUL", "a.example%00.b.example:443", destination.ProblemByte, "percent"},
		{"escaped dot", "127%2e0%2e0%2e1:443", destination.ProblemByte, "percent"},
		{"NUL", "a.example\x00.b.example:443", destination.ProblemByte, "control"},
		{"CRLF", "a.example:443\r\nX: y", destination.ProblemByte, "control"},
		{"space", "a.example:443 ", destination.ProblemByte, "space"},
		{"tab", "\ta.example:443", destination.ProblemByte, "space"},
		{"DEL", "a\x7f.example:443", destination.ProblemByte, "control"},
		{"a wildcard is policy's", "*.example:443", destination.ProblemByte, "wildcard"},
		{"sub-delims of RFC 3986 are in no name", "a!b.example:443", destination.ProblemByte, "byte"},
		{"sub-delims of RFC 3986 are in no name", "a,b.example:443", destination.ProblemByte, "byte"},

		{"port: leading zero", "a.example:080", destination.ProblemPort, "write 80"},
		{"port: zero", "a.example:0", destination.ProblemPort, "1 to 65535"},
		{"port: zeros", "a.example:00", destination.ProblemPort, "1 to 65535"},
		{"port: too large", "a.example:65536", destination.ProblemPort, "1 to 65535"},
		{"port: wraps 16 bits", "a.example:65979", destination.ProblemPort, "1 to 65535"},
		{"port: wraps 64 bits", "a.example:18446744073709552059", destination.ProblemPort, "1 to 65535"},
		{"port: sign", "a.example:+443", destination.ProblemPort, "plain digits"},
		{"port: sign", "a.example:-1", destination.ProblemPort, "plain digits"},
		{"port: service name", "a.example:https", destination.ProblemPort, "plain digits"},
		{"port: hexadecimal", "a.example:0x50", destination.ProblemPort, "plain digits"},
		{"port: separators of Go literals", "a.example:4_3", destination.ProblemPort, "plain digits"},
		{"port: fullwidth digits", "a.example:４４", destination.ProblemPort, "plain digits"},
		{"port: list", "a.example:80,443", destination.ProblemPort, "plain digits"},
		{"two ports", "a.example:80:443", destination.ProblemAddress, "more than one colon"},

		{"RFC 1035 2.3.4: 64 bytes in a label", label(64) + ".example:443", destination.ProblemHost, "64 bytes"},
		{"RFC 1035 2.3.4: 254 bytes in a name", name(254) + ":443", destination.ProblemHost, "254 bytes"},
		{"RFC 1035 2.3.4: empty label", "a..example:443", destination.ProblemHost, "empty label"},
		{"RFC 1035 2.3.4: empty label", ".example:443", destination.ProblemHost, "empty label"},
		{"the root", ".:443", destination.ProblemHost, "empty label"},
		{"CVE-2022-24825, twice", "a.example..:443", destination.ProblemHost, "empty label"},
		{"RFC 952: hyphen first", "-a.example:443", destination.ProblemHost, "begins with a hyphen"},
		{"RFC 952: hyphen last", "a-.example:443", destination.ProblemHost, "ends with a hyphen"},
		{"RFC 952: hyphen last", "a.example-:443", destination.ProblemHost, "ends with a hyphen"},
		{"RFC 952: a hyphen", "-:443", destination.ProblemHost, "hyphen"},

		{"RFC 5890: U-label", "bücher.example:443", destination.ProblemNotASCII, "write xn--bcher-kva.example"},
		{"RFC 5890: U-label in upper case", "BÜCHER.Example.:443", destination.ProblemNotASCII, "write xn--bcher-kva.example"},
		{"RFC 5894 7.2: no guess about sharp s", "straße.example:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: no guess about normalisation", "bu\u0308cher.example:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: the ideographic full stop is a dot to browsers", "a\u3002example:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: the fullwidth full stop", "a\uff0eexample:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: fullwidth digits are digits to browsers", "１２７.0.0.1:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: the Kelvin sign is a k", "\u212a.example:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: dotless lower case", "İ.example:443", destination.ProblemNotASCII, "its A-label"},
		{"UTS 46: soft hyphen vanishes", "a\u00adb.example:443", destination.ProblemNotASCII, "its A-label"},
		{"not UTF-8", "a\xff.example:443", destination.ProblemNotASCII, "its A-label"},

		{"WHATWG IPv4: trailing dot", "127.0.0.1.:80", destination.ProblemAddress, "write 127.0.0.1"},
		{"WHATWG IPv4: five parts", "1.2.3.4.5:80", destination.ProblemAddress, "IPv4"},
		{"WHATWG IPv4: hexadecimal", "0x7f.1:80", destination.ProblemAddress, "hexadecimal"},
		{"WHATWG IPv4: hexadecimal last", "127.0.0.0x1:80", destination.ProblemAddress, "hexadecimal"},
		{"WHATWG IPv4: hexadecimal, upper case", "0X7F000001:80", destination.ProblemAddress, "hexadecimal"},
		{"WHATWG IPv4: 0x alone is zero", "0x:80", destination.ProblemAddress, "hexadecimal"},
		{"WHATWG IPv4: 0x behind a name", "a.0x:80", destination.ProblemAddress, "hexadecimal"},
		{"inet_aton(3): one number", "2130706433:80", destination.ProblemAddress, "short"},
		{"inet_aton(3): two numbers", "127.1:80", destination.ProblemAddress, "short"},
		{"inet_aton(3): three numbers", "127.0.1:80", destination.ProblemAddress, "short"},
		{"inet_aton(3): octal", "0177.0.0.1:80", destination.ProblemAddress, "octal"},
		{"CVE-2021-29923: leading zeros", "127.0.0.01:80", destination.ProblemAddress, "octal"},
		{"WHATWG IPv4: out of range", "256.0.0.1:80", destination.ProblemAddress, "0 to 255"},
		{"WHATWG ends-in-a-number", "a.example.123:80", destination.ProblemAddress, "ends in a number"},
		{"WHATWG ends-in-a-number: 09 too", "a.09:80", destination.ProblemAddress, "ends in a number"},

		{"RFC 3986 3.2.2: IPv6 needs brackets", "::1:443", destination.ProblemAddress, "brackets"},
		{"RFC 5952 4.2.1: shorten", "[0:0:0:0:0:0:0:1]:443", destination.ProblemAddress, "write ::1"},
		{"RFC 5952 4.1: leading zeros", "[2001:0db8::1]:443", destination.ProblemAddress, "write 2001:db8::1"},
		{"RFC 5952 4.3: lower case", "[2001:DB8::1]:443", destination.ProblemAddress, "write 2001:db8::1"},
		{"RFC 5952 4.2.2: one group is not shortened", "[2001:db8::1:1:1:1:1]:443", destination.ProblemAddress, "write 2001:db8:0:1:1:1:1:1"},
		{"RFC 5952 5: dotted quad", "[::1.2.3.4]:443", destination.ProblemAddress, "write ::102:304"},
		{"RFC 4291 2.5.5.2: mapped", "[::ffff:127.0.0.1]:443", destination.ProblemAddress, "write 127.0.0.1"},
		{"RFC 4291 2.5.5.2: mapped, in hexadecimal", "[::ffff:7f00:1]:443", destination.ProblemAddress, "write 127.0.0.1"},
		{"RFC 6874: zone", "[fe80::1%25eth0]:443", destination.ProblemAddress, "zone"},
		{"RFC 4007: zone", "[fe80::1%eth0]:443", destination.ProblemAddress, "zone"},
		{"RFC 3986 3.2.2: IPvFuture", "[v1.a]:443", destination.ProblemAddress, "not an IPv6 address"},
		{"brackets are for IPv6", "[127.0.0.1]:443", destination.ProblemAddress, "not an IPv6 address"},
		{"brackets are for IPv6", "[a.example]:443", destination.ProblemAddress, "not an IPv6 address"},
		{"CVE-2022-29188: brackets twice", "[[::1]]:443", destination.ProblemAddress, "bracket"},
		{"brackets: empty", "[]:443", destination.ProblemAddress, "not an IPv6 address"},
		{"brackets: open", "[::1:443", destination.ProblemAddress, "does not close"},
		{"brackets: more behind", "[::1]a.example:443", destination.ProblemAddress, "behind the bracket"},
		{"brackets: in the middle", "a[::1]:443", destination.ProblemAddress, "more than one colon"},
		{"brackets: close only", "a]:443", destination.ProblemByte, "byte"},
	} {
		got, err := destination.ParseAuthority(test.in)
		checkRefused(t, test.why, test.in, err, test.want, test.says)
		if got != (destination.Target{}) {
			t.Errorf("%s: %q: refused, but returned %+v", test.why, test.in, got)
		}
	}
}

// checkRefused checks an error's problem and its text.
func checkRefused(t *testing.T, why, in string, err error, want destination.Problem, says string) {
	t.Helper()
	refusal, ok := errors.AsType[*destination.Error](err)
	if !ok {
		t.Errorf("%s: %q: %v (%T), want an *Error", why, in, err, err)
		return
	}
	if refusal.Problem != want || !strings.Contains(refusal.Detail, says) {
		t.Errorf("%s: %q: %s %q, want %s and %q", why, in, refusal.Problem, refusal.Detail, want, says)
	}
	checkDetail(t, in, refusal)
	if strings.Contains(in, "hunter2") && strings.Contains(refusal.Detail, "hunter2") {
		t.Errorf("%s: %q: detail %q repeats the password", why, in, refusal.Detail)
	}
}

// checkDetail checks what every message promises.
func checkDetail(t *testing.T, in string, refusal *destination.Error) {
	t.Helper()
	for _, c := range []byte(refusal.Detail) {
		if c < 0x20 || c > 0x7e {
			t.Errorf("%q: detail %q has byte %#x", in, refusal.Detail, c)
		}
	}
	if len(refusal.Detail) > 1024 {
		t.Errorf("%q: detail of %d bytes", in, len(refusal.Detail))
	}
}

func TestParseHost(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"A.Example.", "a.example"},
		{"127.0.0.1", "127.0.0.1"},
		{"2001:db8::1", "2001:db8::1"},
		{"localhost", "localhost"},
	} {
		host, addr, err := destination.ParseHost(test.in)
		want, _ := netip.ParseAddr(test.want)
		if err != nil || host != test.want || addr != want {
			t.Errorf("ParseHost(%q) = %q, %v, %v; want %q", test.in, host, addr, err, test.want)
		}
	}
	for _, test := range []struct {
		why, in string
		want    destination.Problem
		says    string
	}{
		{"empty", "", destination.ProblemHost, "empty"},
		{"brackets belong to an authority", "[::1]", destination.ProblemAddress, "without brackets"},
		{"a port belongs to an authority", "a.example:443", destination.ProblemAddress, "colon"},
		{"RFC 4291 2.5.5.2: mapped", "::ffff:127.0.0.1", destination.ProblemAddress, "write 127.0.0.1"},
		{"RFC 4007: zone", "fe80::1%eth0", destination.ProblemAddress, "zone"},
		{"a path", "a.example/x", destination.ProblemByte, "byte"},
		{"userinfo", "u:hunter2@a.example", destination.ProblemUserinfo, "user information"},
		{"inet_aton(3)", "127.1", destination.ProblemAddress, "short"},
		{"space", "a example", destination.ProblemByte, "byte"},
		{"NUL", "a\x00", destination.ProblemByte, "byte"},
	} {
		host, addr, err := destination.ParseHost(test.in)
		checkRefused(t, test.why, test.in, err, test.want, test.says)
		if host != "" || addr.IsValid() {
			t.Errorf("%s: %q: refused, but returned %q, %v", test.why, test.in, host, addr)
		}
	}
}

// TestCanonicalPathDoesNotAllocate holds the price of the usual case: every
// request pays it before anything is known of who asks.
func TestCanonicalPathDoesNotAllocate(t *testing.T) {
	for _, in := range []string{"api.partner.example:443", "127.0.0.1:80", "[2001:db8::1]:443", "a.example.:443"} {
		if n := testing.AllocsPerRun(100, func() { _, _ = destination.ParseAuthority(in) }); n > 0 {
			t.Errorf("%q: %v allocations", in, n)
		}
	}
	const url = "http://api.partner.example/v1/payments?id=1"
	if n := testing.AllocsPerRun(100, func() { _, _, _ = destination.ParseAbsolute(url) }); n > 0 {
		t.Errorf("%q: %v allocations", url, n)
	}
}

func BenchmarkParseAuthority(b *testing.B) {
	for _, in := range []string{"api.partner.example:443", "API.Partner.Example.:443", "10.20.30.40:443", "[2001:db8::1]:443"} {
		b.Run(in, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := destination.ParseAuthority(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseAbsolute(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := destination.ParseAbsolute("http://api.partner.example/v1/payments?id=1"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDetailHoldsNoSecret: details are shown, logged and recorded, and what
// stands in a query or before an @ is often a secret.
func TestDetailHoldsNoSecret(t *testing.T) {
	for _, raw := range []string{
		"api.partner.example:443?key=s3cret",
		"api.partner.example:443#s3cret",
		"https://api.partner.example/?key=s3cret",
		"me:s3cret@api.partner.example:443",
	} {
		for name, parse := range map[string]func(string) error{
			"ParseAuthority": func(s string) error { _, err := destination.ParseAuthority(s); return err },
			"ParseAbsolute":  func(s string) error { _, _, err := destination.ParseAbsolute(s); return err },
		} {
			if err := parse(raw); err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s(%q): %v", name, raw, err)
			}
		}
	}
}
