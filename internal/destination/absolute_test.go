package destination_test

import (
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

func TestParseAbsoluteAccepts(t *testing.T) {
	for _, test := range []struct{ why, in, want, path string }{
		{"RFC 9112 3.2.2", "http://a.example/x?y=z", "a.example:80", "/x?y=z"},
		{"RFC 9112 3.2.1: an empty path is /", "http://a.example", "a.example:80", "/"},
		{"RFC 9112 3.2.1: an empty path is /", "http://a.example?y", "a.example:80", "/?y"},
		{"RFC 3986 3.1: scheme has no case", "HTTP://A.Example./", "a.example:80", "/"},
		{"RFC 9110 4.2.1: port", "http://a.example:8080/", "a.example:8080", "/"},
		{"RFC 3986 3.2.2: IPv6", "http://[2001:db8::1]/", "[2001:db8::1]:80", "/"},
		{"RFC 3986 6.2.2.2: unreserved escapes are decoded", "http://a.example/%61dmin/%7Eme", "a.example:80", "/admin/~me"},
		{"RFC 3986 6.2.2.1: escapes in upper case", "http://a.example/@scope%2fname", "a.example:80", "/@scope%2Fname"},
		{"RFC 3986 2.1: an escape is decoded once", "http://a.example/%2561", "a.example:80", "/%2561"},
		{"a query is the origin's", "http://a.example/?q=%61%2f../..|{}[]^`\\", "a.example:80", "/?q=%61%2f../..|{}[]^`\\"},
		{"WHATWG leaves these in a path", "http://a.example/a|b[c]", "a.example:80", "/a|b[c]"},
		{"an empty segment is a segment", "http://a.example//b.example/", "a.example:80", "//b.example/"},
		{"dots in a segment", "http://a.example/.well-known/...;a/b..", "a.example:80", "/.well-known/...;a/b.."},
		{"RFC 3986 5.2.4: a single dot leads nowhere (apt)", "http://a.example/debian/./Packages", "a.example:80", "/debian/Packages"},
		{"RFC 3986 5.2.4: single dots in a row", "http://a.example/./././a/././b/.", "a.example:80", "/a/b/"},
		{"RFC 3986 5.2.4: a single dot, escaped", "http://a.example/a/%2e/b?x/./y", "a.example:80", "/a/b?x/./y"},
		{"RFC 3986 5.2.4: a single dot before an empty segment", "http://a.example/.//b.example/", "a.example:80", "//b.example/"},
		{"@ in a path is not userinfo", "http://a.example/u@b.example", "a.example:80", "/u@b.example"},
		{"@ in a query is not userinfo", "http://a.example?u@b.example", "a.example:80", "/?u@b.example"},
	} {
		got, path, err := destination.ParseAbsolute(test.in)
		if err != nil {
			t.Errorf("%s: %q: %v", test.why, test.in, err)
			continue
		}
		if got.String() != test.want || path != test.path || got.Scheme != "http" {
			t.Errorf("%s: %q = %s %s, %q; want http %s, %q", test.why, test.in, got.Scheme, got, path, test.want, test.path)
		}
	}
}

func TestParseAbsoluteRefuses(t *testing.T) {
	for _, test := range []struct {
		why, in string
		want    destination.Problem
		says    string
	}{
		{"RFC 9112 3.2.1: origin-form is for servers", "/x", destination.ProblemForm, "absolute URL"},
		{"RFC 9112 3.2.4: asterisk-form", "*", destination.ProblemForm, "absolute URL"},
		{"empty", "", destination.ProblemForm, "absolute URL"},
		{"RFC 9112 3.2.3: authority-form", "a.example:80", destination.ProblemForm, "absolute URL"},
		{"RFC 3986 4.2: network-path", "//a.example/", destination.ProblemForm, "absolute URL"},
		{"one slash", "http:/a.example/", destination.ProblemForm, "absolute URL"},
		{"password in something odd", "user:hunter2@a.example/", destination.ProblemForm, "absolute URL"},
		{"space first", " http://a.example/", destination.ProblemForm, "absolute URL"},
		{"RFC 9110 4.2.2: https", "https://a.example/", destination.ProblemScheme, "CONNECT"},
		{"RFC 9110 4.2.2: https", "HTTPS://a.example/", destination.ProblemScheme, "CONNECT"},
		{"another scheme", "ftp://a.example/", destination.ProblemScheme, "not http"},
		{"another scheme", "ws://a.example/", destination.ProblemScheme, "not http"},
		{"RFC 9110 4.2.1: no empty host", "http:///x", destination.ProblemHost, "no host"},
		{"RFC 9110 4.2.1: no empty host", "http://", destination.ProblemHost, "no host"},
		{"RFC 9110 4.2.1: no empty host", "http://:80/", destination.ProblemHost, "empty"},
		{"RFC 9110 4.2.1: no empty host", "http://?x", destination.ProblemHost, "no host"},
		{"RFC 9110 4.2.4: userinfo", "http://u:hunter2@a.example/", destination.ProblemUserinfo, "user information"},
		{"RFC 9110 4.2.4: userinfo, empty", "http://@a.example/", destination.ProblemUserinfo, "user information"},
		{"WHATWG: a backslash is a slash", `http://a.example\@b.example/`, destination.ProblemUserinfo, "user information"},
		{"WHATWG: a backslash is a slash", `http://a.example\b.example/`, destination.ProblemByte, "byte"},
		{"RFC 9110 7.1: a fragment is not sent", "http://a.example/#x", destination.ProblemPath, "fragment"},
		{"RFC 9110 7.1: a fragment is not sent", "http://a.example#@b.example/", destination.ProblemPath, "fragment"},
		{"RFC 3986 3.2.3: an empty port is written by mistake", "http://a.example:/", destination.ProblemPort, "empty"},
		{"port: leading zero", "http://a.example:080/", destination.ProblemPort, "write 80"},
		{"space", "http://a.example/a b", destination.ProblemByte, "space"},
		{"tab", "http://a.example/a\tb", destination.ProblemByte, "space"},
		{"CRLF in the query", "http://a.example/?\r\nX: y", destination.ProblemByte, "control"},
		{"NUL", "http://a.example/\x00", destination.ProblemByte, "control"},
		{"space in the host", "http://a .example/", destination.ProblemByte, "space"},
		{"RFC 3987: an IRI", "http://a.example/ü", destination.ProblemNotASCII, "percent-escapes"},
		{"RFC 3987: an IRI", "http://bücher.example/", destination.ProblemNotASCII, "xn--bcher-kva.example"},
		{"RFC 3986 2.1: escape", "http://a.example/%", destination.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape", "http://a.example/%2", destination.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape", "http://a.example/?%zz", destination.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape over the ?", "http://a.example/%2?0", destination.ProblemByte, "%25"},
		{"RFC 3986 2: not in a URI", "http://a.example/<", destination.ProblemByte, "percent-escape"},
		{"RFC 3986 2: not in a URI", "http://a.example/?\"", destination.ProblemByte, "percent-escape"},
		{"WHATWG: a backslash is a slash", `http://a.example/..\x`, destination.ProblemByte, "percent-escape"},
		{"RFC 3986 5.2.4: dot segments", "http://a.example/public/../admin", destination.ProblemPath, ".."},
		{"RFC 3986 5.2.4: dot segments, single before double", "http://a.example/public/./../admin", destination.ProblemPath, ".."},
		{"escaped slash beside a single dot", "http://a.example/public/.%2fadmin", destination.ProblemPath, "escaped slash"},
		{"path parameter behind a single dot", "http://a.example/public/.;x/admin", destination.ProblemPath, "parameter"},
		{"RFC 3986 5.2.4: dot segments, last", "http://a.example/public/..", destination.ProblemPath, ".."},
		{"RFC 3986 5.2.4: dot segments, before a query", "http://a.example/public/..?x", destination.ProblemPath, ".."},
		{"CVE-2021-41773: escaped dots", "http://a.example/public/.%2e/admin", destination.ProblemPath, ".."},
		{"CVE-2021-41773: escaped dots", "http://a.example/public/%2E%2E/admin", destination.ProblemPath, ".."},
		{"escaped slash", "http://a.example/public/..%2fadmin", destination.ProblemPath, ".."},
		{"escaped slash", "http://a.example/public%2f..", destination.ProblemPath, ".."},
		{"escaped backslash", "http://a.example/public/x%5c..%5cadmin", destination.ProblemPath, ".."},
		{"CVE-2020-5902: path parameter", "http://a.example/public/..;/admin", destination.ProblemPath, ".."},
		{"CVE-2020-5902: path parameter, escaped", "http://a.example/public/..%3b/admin", destination.ProblemPath, ".."},
	} {
		got, path, err := destination.ParseAbsolute(test.in)
		checkRefused(t, test.why, test.in, err, test.want, test.says)
		if got != (destination.Target{}) || path != "" {
			t.Errorf("%s: %q: refused, but returned %+v, %q", test.why, test.in, got, path)
		}
	}
}
