package destination_test

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

// FuzzParseAuthority holds that whatever is accepted is read alike by everyone
// who could read it again: net, net/url and netip. A disagreement would be a
// target decided as one place and dialled as another.
func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a.example:443", "A.Example.:80", "127.0.0.1:1", "[::1]:65535", "0x7f.1:80", "u@a:1", "a%00:1", "/", ":443"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := destination.ParseAuthority(s)
		if err != nil {
			checkFuzzError(t, s, err)
			return
		}
		checkTarget(t, s, got)
		host, port, err := net.SplitHostPort(s)
		if err != nil || canonical(host) != got.Host || port != strconv.Itoa(int(got.Port)) {
			t.Errorf("%q: net reads %q %q (%v), we read %v", s, host, port, err, got)
		}
		u, err := url.Parse("//" + s)
		if err != nil || canonical(u.Hostname()) != got.Host || u.Port() != port || u.User != nil || u.Path != "" {
			t.Errorf("%q: net/url reads %+v (%v), we read %v", s, u, err, got)
		}
		again, err := destination.ParseAuthority(got.String())
		if err != nil || again != got {
			t.Errorf("%q: %v read again is %v, %v", s, got, again, err)
		}
	})
}

// FuzzParseAbsolute holds the same for URLs, and that the path that policy
// receives is the path of the target.
func FuzzParseAbsolute(f *testing.F) {
	for _, s := range []string{"http://a.example", "HTTP://a.example:8080/%61?b#c", "http://u:p@a/", "http://[::1]/..%2f", "http://a/./b/%2e/.//.", "https://a/", `http://a\@b/`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, pathAndQuery, err := destination.ParseAbsolute(s)
		if err != nil {
			checkFuzzError(t, s, err)
			return
		}
		checkTarget(t, s, got)
		u, err := url.Parse(s)
		if err != nil {
			t.Fatalf("%q: net/url: %v", s, err)
		}
		port := u.Port()
		if port == "" {
			port = "80"
		}
		if u.Scheme != got.Scheme || canonical(u.Hostname()) != got.Host || port != strconv.Itoa(int(got.Port)) || u.User != nil {
			t.Errorf("%q: net/url reads %+v, we read %v", s, u, got)
		}
		sent, err := url.ParseRequestURI(pathAndQuery)
		if err != nil {
			t.Fatalf("%q: an origin cannot read %q: %v", s, pathAndQuery, err)
		}
		if want := withoutSingleDots(u.Path); want != "" && !strings.HasPrefix(pathAndQuery, "//") && sent.Path != want {
			t.Errorf("%q: sends path %q, net/url reads %q", s, sent.Path, want)
		}
		ours, _, _ := strings.Cut(pathAndQuery, "?")
		if decoded, err := url.PathUnescape(ours); err != nil || ours[0] != '/' || path.Clean("/"+decoded) != strings.TrimSuffix(squeeze("/"+decoded), "/") && path.Clean("/"+decoded) != "/" {
			t.Errorf("%q: path %q is cleaned to %q", s, ours, path.Clean("/"+decoded))
		}
		if _, query, _ := strings.Cut(pathAndQuery, "?"); query != u.RawQuery {
			t.Errorf("%q: sends query %q, net/url reads %q", s, query, u.RawQuery)
		}
		for _, c := range []byte(pathAndQuery) {
			if c <= 0x20 || c > 0x7e {
				t.Errorf("%q: sends byte %#x", s, c)
			}
		}
		again, pathAgain, err := destination.ParseAbsolute("http://" + got.String() + pathAndQuery)
		if err != nil || again != got || pathAgain != pathAndQuery {
			t.Errorf("%q: read again is %v %q, %v", s, again, pathAgain, err)
		}
	})
}

// FuzzParseHost holds that a host is a name or an address and never both, and
// that an authority made of it is the same host.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"a.example", "::1", "127.0.0.1", "bücher.example", "xn--a", "[::1]", "a_b.", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, addr, err := destination.ParseHost(s)
		if err != nil {
			checkFuzzError(t, s, err)
			return
		}
		if again, addrAgain, err := destination.ParseHost(host); err != nil || again != host || addrAgain != addr {
			t.Errorf("%q: %q read again is %q, %v, %v", s, host, again, addrAgain, err)
		}
		if canonical(s) != host {
			t.Errorf("%q became %q", s, host)
		}
		got, err := destination.ParseAuthority(net.JoinHostPort(s, "443"))
		if err != nil || got.Host != host || got.Addr != addr {
			t.Errorf("%q: in an authority it is %v, %v", s, got, err)
			return
		}
		checkTarget(t, s, got)
	})
}

// canonical is all that may be repaired in a host.
func canonical(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// withoutSingleDots removes the segments "." of a decoded path, one at a time.
func withoutSingleDots(s string) string {
	for strings.Contains(s, "/./") {
		s = strings.Replace(s, "/./", "/", 1)
	}
	if strings.HasSuffix(s, "/.") {
		s = s[:len(s)-1]
	}
	return s
}

// squeeze makes one slash of several.
func squeeze(s string) string {
	for strings.Contains(s, "//") {
		s = strings.ReplaceAll(s, "//", "/")
	}
	return s
}

// checkFuzzError checks what every refusal promises.
func checkFuzzError(t *testing.T, in string, err error) {
	t.Helper()
	refusal, ok := errors.AsType[*destination.Error](err)
	if !ok || refusal.Problem == "" {
		t.Fatalf("%q: %v (%T)", in, err, err)
	}
	checkDetail(t, in, refusal)
}

// checkTarget checks what every valid target promises.
func checkTarget(t *testing.T, in string, got destination.Target) {
	t.Helper()
	addr, err := netip.ParseAddr(got.Host)
	if (err == nil) != got.IsAddress() || addr != got.Addr {
		t.Errorf("%q: netip reads host %q as %v (%v), we as %v", in, got.Host, addr, err, got.Addr)
	}
	if got.IsAddress() && (addr.String() != got.Host || addr.Zone() != "" || addr.Is4In6()) {
		t.Errorf("%q: address %v is not canonical in %q", in, addr, got.Host)
	}
	if got.Port == 0 || got.Host == "" || len(got.Host) > 253 {
		t.Errorf("%q: %+v", in, got)
	}
	allowed := "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if got.IsAddress() {
		allowed = "abcdef0123456789.:"
	}
	if strings.Trim(got.Host, allowed) != "" {
		t.Errorf("%q: host %q has other bytes", in, got.Host)
	}
}
