package target_test

import (
	"testing"

	"github.com/sallyport/sallyport/internal/target"
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
		{"@ in a path is no userinfo", "http://a.example/u@b.example", "a.example:80", "/u@b.example"},
		{"@ in a query is no userinfo", "http://a.example?u@b.example", "a.example:80", "/?u@b.example"},
	} {
		got, path, err := target.ParseAbsolute(test.in)
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
		want    target.Problem
		says    string
	}{
		{"RFC 9112 3.2.1: origin-form is for servers", "/x", target.ProblemForm, "absolute URL"},
		{"RFC 9112 3.2.4: asterisk-form", "*", target.ProblemForm, "absolute URL"},
		{"empty", "", target.ProblemForm, "absolute URL"},
		{"RFC 9112 3.2.3: authority-form", "a.example:80", target.ProblemForm, "absolute URL"},
		{"RFC 3986 4.2: network-path", "//a.example/", target.ProblemForm, "absolute URL"},
		{"one slash", "http:/a.example/", target.ProblemForm, "absolute URL"},
		{"password in something odd", "user:hunter2@a.example/", target.ProblemForm, "absolute URL"},
		{"space first", " http://a.example/", target.ProblemForm, "absolute URL"},
		{"RFC 9110 4.2.2: https", "https://a.example/", target.ProblemScheme, "CONNECT"},
		{"RFC 9110 4.2.2: https", "HTTPS://a.example/", target.ProblemScheme, "CONNECT"},
		{"another scheme", "ftp://a.example/", target.ProblemScheme, "not http"},
		{"another scheme", "ws://a.example/", target.ProblemScheme, "not http"},
		{"RFC 9110 4.2.1: no empty host", "http:///x", target.ProblemHost, "no host"},
		{"RFC 9110 4.2.1: no empty host", "http://", target.ProblemHost, "no host"},
		{"RFC 9110 4.2.1: no empty host", "http://:80/", target.ProblemHost, "empty"},
		{"RFC 9110 4.2.1: no empty host", "http://?x", target.ProblemHost, "no host"},
		{"RFC 9110 4.2.4: userinfo", "http://u:hunter2@a.example/", target.ProblemUserinfo, "user information"},
		{"RFC 9110 4.2.4: userinfo, empty", "http://@a.example/", target.ProblemUserinfo, "user information"},
		{"WHATWG: a backslash is a slash", `http://a.example\@b.example/`, target.ProblemUserinfo, "user information"},
		{"WHATWG: a backslash is a slash", `http://a.example\b.example/`, target.ProblemByte, "byte"},
		{"RFC 9110 7.1: a fragment is not sent", "http://a.example/#x", target.ProblemPath, "fragment"},
		{"RFC 9110 7.1: a fragment is not sent", "http://a.example#@b.example/", target.ProblemPath, "fragment"},
		{"RFC 3986 3.2.3: an empty port is written by mistake", "http://a.example:/", target.ProblemPort, "empty"},
		{"port: leading zero", "http://a.example:080/", target.ProblemPort, "write 80"},
		{"space", "http://a.example/a b", target.ProblemByte, "space"},
		{"tab", "http://a.example/a\tb", target.ProblemByte, "space"},
		{"CRLF in the query", "http://a.example/?\r\nX: y", target.ProblemByte, "control"},
		{"NUL", "http://a.example/\x00", target.ProblemByte, "control"},
		{"space in the host", "http://a .example/", target.ProblemByte, "space"},
		{"RFC 3987: an IRI", "http://a.example/ü", target.ProblemNotASCII, "percent-escapes"},
		{"RFC 3987: an IRI", "http://bücher.example/", target.ProblemNotASCII, "xn--bcher-kva.example"},
		{"RFC 3986 2.1: escape", "http://a.example/%", target.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape", "http://a.example/%2", target.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape", "http://a.example/?%zz", target.ProblemByte, "%25"},
		{"RFC 3986 2.1: escape over the ?", "http://a.example/%2?0", target.ProblemByte, "%25"},
		{"RFC 3986 2: not in a URI", "http://a.example/<", target.ProblemByte, "percent-escape"},
		{"RFC 3986 2: not in a URI", "http://a.example/?\"", target.ProblemByte, "percent-escape"},
		{"WHATWG: a backslash is a slash", `http://a.example/..\x`, target.ProblemByte, "percent-escape"},
		{"RFC 3986 5.2.4: dot segments", "http://a.example/public/../admin", target.ProblemPath, ".."},
		{"RFC 3986 5.2.4: dot segments, single before double", "http://a.example/public/./../admin", target.ProblemPath, ".."},
		{"escaped slash beside a single dot", "http://a.example/public/.%2fadmin", target.ProblemPath, "escaped slash"},
		{"path parameter behind a single dot", "http://a.example/public/.;x/admin", target.ProblemPath, "parameter"},
		{"RFC 3986 5.2.4: dot segments, last", "http://a.example/public/..", target.ProblemPath, ".."},
		{"RFC 3986 5.2.4: dot segments, before a query", "http://a.example/public/..?x", target.ProblemPath, ".."},
		{"CVE-2021-41773: escaped dots", "http://a.example/public/.%2e/admin", target.ProblemPath, ".."},
		{"CVE-2021-41773: escaped dots", "http://a.example/public/%2E%2E/admin", target.ProblemPath, ".."},
		{"escaped slash", "http://a.example/public/..%2fadmin", target.ProblemPath, ".."},
		{"escaped slash", "http://a.example/public%2f..", target.ProblemPath, ".."},
		{"escaped backslash", "http://a.example/public/x%5c..%5cadmin", target.ProblemPath, ".."},
		{"CVE-2020-5902: path parameter", "http://a.example/public/..;/admin", target.ProblemPath, ".."},
		{"CVE-2020-5902: path parameter, escaped", "http://a.example/public/..%3b/admin", target.ProblemPath, ".."},
	} {
		got, path, err := target.ParseAbsolute(test.in)
		checkRefused(t, test.why, test.in, err, test.want, test.says)
		if got != (target.Target{}) || path != "" {
			t.Errorf("%s: %q: refused, but returned %+v, %q", test.why, test.in, got, path)
		}
	}
}
