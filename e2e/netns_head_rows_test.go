package e2e

import "strings"

// headRows are request heads that have more than one meaning, or none.
func (s *space) headRows() []*row {
	var rows []*row
	for _, r := range []struct {
		name, source, send string
		status             int
		reason             string
		controls           []string
	}{
		{"lines end with a bare line feed", "RFC 9112 section 2.2", "GET http://{host}:{http}/ HTTP/1.1\nHost: {host}\n{auth}\n", 400, "request_invalid", []string{"lines"}},
		{"one line ends with a bare line feed", "RFC 9112 section 2.2", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\nX: y\r\n{auth}\r\n", 400, "request_invalid", []string{"lines"}},
		{"a bare carriage return in a value", "RFC 9112 section 2.2", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX: a\rY: b\r\n{auth}\r\n", 400, "request_invalid", []string{"lines"}},
		{"a folded field", "RFC 9112 section 5.2", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b\r\n{auth}\r\n", 400, "request_invalid", []string{"lines"}},
		{"white space before the colon", "RFC 9112 section 5.1", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX : a\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"white space in front of the first field", "RFC 9112 section 2.2", "GET http://{host}:{http}/ HTTP/1.1\r\n X: a\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"NUL in a value", "RFC 9110 section 5.5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX: a\x00b\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"NUL in a name", "RFC 9110 section 5.1", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX\x00: a\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"NUL in the target", "RFC 9112 section 3.2", "GET http://{host}:{http}/\x00 HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"DEL in a value", "RFC 9110 section 5.5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX: a\x7f\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"a line without a colon", "RFC 9112 section 5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"a field without a name", "RFC 9112 section 5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n: a\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"two spaces in the request line", "RFC 9112 section 3", "GET  http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"a tab in the request line", "RFC 9112 section 3", "GET\thttp://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"a space in the target", "RFC 9112 section 3.2", "GET http://{host}:{http}/ x HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"HTTP/0.9", "RFC 1945 section 4.1", "GET http://{host}:{http}/\r\n\r\n", 400, "request_invalid", nil},
		{"HTTP/1.2", "RFC 9110 section 2.5", "GET http://{host}:{http}/ HTTP/1.2\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"HTTP/2 by name", "RFC 9112 section 2.3", "GET http://{host}:{http}/ HTTP/2.0\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"lower-case version", "RFC 9112 section 2.3", "GET http://{host}:{http}/ http/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"the HTTP/2 preface", "RFC 9113 section 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "request_invalid", nil},
		{"TLS on the plain listener", "RFC 8446 section 5.1", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 400, "request_invalid", nil},
		{"a SOCKS client", "RFC 1928 section 3", "\x05\x01\x00", 400, "request_invalid", nil},
		{"a PROXY header that nobody may send", "the PROXY protocol, section 2", "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"two Host fields", "RFC 9112 section 3.2", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nHost: elsewhere.test\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"no Host", "RFC 9112 section 3.2", "GET http://{host}:{http}/ HTTP/1.1\r\n{auth}\r\n", 400, "request_invalid", []string{"framing"}},
		{"origin form", "RFC 9112 section 3.2.1", "GET / HTTP/1.1\r\nHost: {host}:{http}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"asterisk form", "RFC 9112 section 3.2.4", "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 400, "request_invalid", nil},
		{"TRACE", "RFC 9110 section 9.3.8", "TRACE http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n", 501, "request_invalid", nil},
		{"Max-Forwards is 0", "RFC 9110 section 7.6.2", "OPTIONS http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nMax-Forwards: 0\r\n{auth}\r\n", 501, "request_invalid", nil},
		{"no credential", "RFC 9110 section 11.7.1", "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\n\r\n", 407, "credential_missing", nil},
		{"two credentials", "RFC 9110 section 5.3", "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\n{auth}{auth}\r\n", 400, "credential_ambiguous", nil},
		{"a folded credential", "RFC 9112 section 5.2", "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic\r\n abc\r\n\r\n", 400, "credential_ambiguous", []string{"lines"}},
		{"a list of credentials", "RFC 9110 section 11.7.1", "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic YTpi, Basic YTpj\r\n\r\n", 400, "credential_ambiguous", nil},
		{"a head over the limit", "RFC 6585 section 5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nX: " + strings.Repeat("a", 100<<10) + "\r\n{auth}\r\n", 431, "head_too_large", nil},
		{"too many fields", "RFC 6585 section 5", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n" + strings.Repeat("X: a\r\n", 300) + "{auth}\r\n", 431, "head_too_large", nil},
		{"a head that does not end", "RFC 9110 section 15.5.9; Slowloris, CVE-2007-6750", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}X: a", 408, "head_timeout", nil},
		{"a request that has been here", "RFC 9110 section 7.6.3", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 elsewhere, 1.1 {pseudonym} (x)\r\n{auth}\r\n", 508, "request_invalid", []string{"via"}},
		{"a request that has been here, told on two lines", "RFC 9110 section 7.6.3", "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 elsewhere\r\nvia: HTTP/1.1 {pseudonym}\r\n{auth}\r\n", 508, "request_invalid", []string{"via"}},
	} {
		rows = append(rows, &row{name: "head: " + r.name, source: r.source, controls: r.controls, send: r.send, status: r.status, reason: r.reason})
	}
	return rows
}

// framingRows are messages that end in two places, and what stands behind those
// that were refused.
func (s *space) framingRows() []*row {
	var rows []*row
	post := "POST http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n"
	for _, r := range []struct {
		name, source, fields string
		controls             []string
	}{
		{"both a length and a coding", "RFC 9112 section 6.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", []string{"framing"}},
		{"both, the other way round", "RFC 9112 section 6.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", []string{"framing"}},
		{"two lengths", "RFC 9112 section 6.3", "Content-Length: 5\r\nContent-Length: 6\r\n", []string{"framing"}},
		{"the same length twice", "RFC 9110 section 8.6", "Content-Length: 5\r\nContent-Length: 5\r\n", []string{"framing"}},
		{"a list of lengths", "RFC 9110 section 8.6", "Content-Length: 5, 5\r\n", []string{"framing"}},
		{"a length with a sign", "RFC 9110 section 8.6", "Content-Length: +5\r\n", []string{"framing"}},
		{"a negative length", "RFC 9110 section 8.6", "Content-Length: -5\r\n", []string{"framing"}},
		{"a hexadecimal length", "RFC 9110 section 8.6", "Content-Length: 0x5\r\n", []string{"framing"}},
		{"a length with zeros in front", "RFC 9110 section 8.6", "Content-Length: 005\r\n", []string{"framing"}},
		{"no length in its field", "RFC 9110 section 8.6", "Content-Length: \r\n", []string{"framing"}},
		{"a length past all numbers", "RFC 9110 section 8.6", "Content-Length: 18446744073709551621\r\n", []string{"framing"}},
		{"an unknown coding", "RFC 9112 section 6.1", "Transfer-Encoding: xchunked\r\n", []string{"framing"}},
		{"chunked is not the last", "RFC 9112 section 6.1", "Transfer-Encoding: chunked, identity\r\n", []string{"framing"}},
		{"chunked twice", "RFC 9112 section 6.1", "Transfer-Encoding: chunked, chunked\r\n", []string{"framing"}},
		{"two codings fields", "RFC 9112 section 6.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", []string{"framing"}},
		{"a quoted coding", "RFC 9112 section 7", "Transfer-Encoding: \"chunked\"\r\n", []string{"framing"}},
	} {
		rows = append(rows, &row{name: "framing: " + r.name, source: r.source, controls: r.controls,
			send: post + r.fields + "\r\n5\r\nhello\r\n0\r\n\r\n", status: 400, reason: "request_invalid"})
	}
	rows = append(rows,
		&row{name: "framing: a coding in HTTP/1.0", source: "RFC 9112 section 6.1", controls: []string{"framing"},
			send:   "POST http://{host}:{http}/ HTTP/1.0\r\nHost: {host}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
			status: 400, reason: "request_invalid"},
		&row{name: "framing: a vertical tab before the coding", source: "RFC 9110 section 5.5",
			send: post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", status: 400, reason: "request_invalid"},
		&row{name: "framing: a CONNECT with content", source: "RFC 9110 section 9.3.6", controls: []string{"framing"},
			send: "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\n{auth}Content-Length: 5\r\n\r\nhello", status: 400, reason: "request_invalid"},
	)
	yes := true
	inner := "GET http://{host}:{http}/smuggled HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n\r\n"
	for _, r := range []struct{ name, source, body string }{
		{"a size in C's notation", "RFC 9112 section 7.1", "0x5\r\nhello\r\n0\r\n\r\n"},
		{"a size with a sign", "RFC 9112 section 7.1", "+5\r\nhello\r\n0\r\n\r\n"},
		{"a size with a space in front", "RFC 9112 section 7.1", " 5\r\nhello\r\n0\r\n\r\n"},
		{"a size that wraps round", "RFC 9112 section 7.1; CVE-2013-2028", "ffffffffffffffff6\r\nhello\r\n0\r\n\r\n"},
		{"a size line that ends with a bare line feed", "RFC 9112 section 7.1; CVE-2025-22871", "5\nhello\r\n0\r\n\r\n"},
		{"a line feed inside an extension", "RFC 9112 section 7.1.1; CVE-2025-22871", "5;x=\ny\r\nhello\r\n0\r\n\r\n"},
		{"content longer than its size", "RFC 9112 section 7.1", "3\r\nhello\r\n0\r\n\r\n"},
		{"no line end behind the content", "RFC 9112 section 7.1", "5\r\nhelloXX0\r\n\r\n"},
		{"a last chunk with letters", "RFC 9112 section 7.1", "5\r\nhello\r\n0x\r\n\r\n"},
		{"extensions without end", "CVE-2023-39326", strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 200) + "0\r\n\r\n"},
		{"a trailer with a bare line feed", "RFC 9112 section 7.1.2", "5\r\nhello\r\n0\r\nX: y\n\r\n"},
	} {
		rows = append(rows, &row{name: "chunks: " + r.name, source: r.source, send: post + "Transfer-Encoding: chunked\r\n\r\n" + r.body + inner,
			status: 400, reason: "request_invalid", patient: true, mayResolve: &yes, dials: []string{"{public}:{http}"}, optional: true, checkSent: all(lacks("smuggled"), lacks("\r\n0\r\n\r\n"))})
	}
	behind := "GET http://{host}:{http}/behind HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n\r\n"
	return append(rows,
		&row{name: "behind: a CONNECT without a credential", source: "RFC 9110 section 9.3.6; RFC 9112 section 9.3",
			send: "CONNECT {host}:{tls} HTTP/1.1\r\nHost: {host}\r\n\r\n" + behind, status: 407, reason: "credential_missing"},
		&row{name: "behind: a denied CONNECT", source: "RFC 9110 section 9.3.6; RFC 9112 section 9.3", controls: []string{"verdict"},
			send: connect("blocked.open.example:{tls}") + behind, status: 403, reason: "policy_denied"},
		&row{name: "behind: a CONNECT that nobody answers", source: "RFC 9110 section 9.3.6", dials: []string{"{public}:{dead}"},
			send: connect("{host}:{dead}") + behind, status: 502, reason: "target_unreachable", optional: true},
		&row{name: "behind: a denied request", source: "RFC 9112 section 9.3", controls: []string{"verdict"},
			send: "GET http://blocked.open.example:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n" + behind, status: 403, reason: "policy_denied"},
		&row{name: "behind: a request with content, another in the content", source: "RFC 9112 section 6.3", status: 200, dials: []string{"{public}:{http}"},
			send:      "POST http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\nContent-Length: 4\r\n\r\nbody" + behind,
			checkSent: all(once, lacks("/behind"))},
	)
}

// hopRows are fields that belong to one connection, and must not reach the next.
func (s *space) hopRows() []*row {
	send := func(fields string) string {
		return "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}" + fields + "\r\n"
	}
	keeps := func(name, source, fields string, arrives func(string) string, controls ...string) *row {
		return &row{name: "hop: " + name, source: source, controls: controls, send: send(fields), status: 200,
			dials: []string{"{public}:{http}"}, checkSent: all(once, arrives)}
	}
	return []*row{
		keeps("the credential", "RFC 9110 section 11.7.2", "Connection: close\r\n", lacks("proxy-authorization")),
		keeps("what Connection nominates", "RFC 9110 section 7.6.1", "Connection: close, X-Internal-User\r\nX-Internal-User: root\r\n", lacks("internal-user"), "nominated"),
		keeps("what a second Connection nominates", "RFC 9110 section 7.6.1", "Connection: x-one\r\nX-One: 1\r\nConnection: close, x-two\r\nX-Two: 2\r\n", all(lacks("x-one"), lacks("x-two")), "nominated"),
		keeps("Proxy-Connection", "RFC 9112 appendix C.2.2", "Proxy-Connection: keep-alive\r\nConnection: close\r\n", lacks("proxy-connection")),
		keeps("any field for the proxy", "RFC 9110 section 7.6.1", "Proxy-Token: x\r\nConnection: close\r\n", lacks("proxy-token"), "hop"),
		keeps("TE and Trailer", "RFC 9110 section 10.1.4", "TE: trailers\r\nTrailer: X\r\nKeep-Alive: 5\r\nConnection: close, te\r\n", all(lacks("\r\nte:"), lacks("\r\ntrailer:"), lacks("keep-alive"))),
		keeps("an upgrade to HTTP/2", "RFC 9113 section 3.1", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: close, Upgrade, HTTP2-Settings\r\n", all(lacks("h2c"), lacks("http2-settings"))),
		keeps("Via is told", "RFC 9110 section 7.6.3", "Via: 1.0 earlier\r\nConnection: close\r\n", has("Via: 1.0 earlier, 1.1 sallyport-")),
	}
}
