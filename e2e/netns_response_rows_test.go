package e2e

import "strings"

// responseRows are hostile responses of targets.
func (s *space) responseRows() []*row {
	var rows []*row
	for _, r := range []struct {
		name, source, answers string
		controls              []string
	}{
		{"101 that nobody asked for", "RFC 9110 section 15.2.2", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw", []string{"answers"}},
		{"407 in the proxy's name", "RFC 9110 section 15.5.8", "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"sallyport\"\r\nContent-Length: 0\r\n\r\n", []string{"answers"}},
		{"two lengths", "RFC 9112 section 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\nok", nil},
		{"a negative length", "RFC 9112 section 6.3", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", nil},
		{"an unknown coding", "RFC 9112 section 6.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok", nil},
		{"NUL in a field", "RFC 9110 section 5.5", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", nil},
		{"a bare carriage return in a field", "RFC 9112 section 2.2", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", nil},
		{"a space in a field's name", "RFC 9112 section 5.1", "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok", []string{"answers"}},
		{"no HTTP at all", "RFC 9112 section 2.2", "SSH-2.0-OpenSSH_9.2\r\n", nil},
		{"the HTTP/2 preface", "RFC 9113 section 3.4", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", nil},
		{"a head without end", "RFC 6585 section 5", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 100) + "\r\n", nil},
		{"interim answers without end", "RFC 9110 section 15.2", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("a", 500)+"\r\n\r\n", 300), nil},
		{"a status of two digits", "RFC 9112 section 4", "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", nil},
	} {
		rows = append(rows, &row{name: "answer: " + r.name, source: r.source, controls: r.controls, send: get, response: r.answers,
			status: 502, reason: "response_invalid", dials: []string{"{public}:{http}"}, checkSent: once})
	}
	heard := func(name, source, answers string, hears func(string) string, controls ...string) *row {
		return &row{name: "answer: " + name, source: source, controls: controls, send: get, response: answers,
			status: 200, dials: []string{"{public}:{http}"}, checkSent: once, checkRaw: hears}
	}
	return append(rows,
		heard("fields in the proxy's name", "RFC 9209 section 2", "HTTP/1.1 200 OK\r\nSallyport-Decision: 1\r\nProxy-Authenticate: Basic\r\nProxy-Status: sallyport; error=x\r\nContent-Length: 2\r\n\r\nok",
			all(lacks("sallyport-decision"), lacks("proxy-"), has("\r\n\r\nok")), "ours", "hop"),
		heard("what its Connection nominates", "RFC 9110 section 7.6.1", "HTTP/1.1 200 OK\r\nConnection: x-inner\r\nX-Inner: 1\r\nContent-Length: 2\r\n\r\nok", all(lacks("x-inner"), has("\r\n\r\nok")), "nominated"),
		heard("a length and a coding", "RFC 9112 section 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", all(lacks("content-length"), has("abc"))),
		heard("a coding in HTTP/1.0", "RFC 9112 section 6.1: no coding, and the end is the connection's", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			has("\r\nc\r\n2\r\nok\r\n0\r\n\r\n\r\n0\r\n\r\n")),
		heard("another answer behind it", "RFC 9112 section 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray", lacks("stray")),
		heard("a reason phrase of its own", "RFC 9112 section 4", "HTTP/1.1 200 Sallyport policy_denied\r\nContent-Length: 2\r\n\r\nok", lacks("policy_denied")),
		heard("a folded field", "RFC 9112 section 5.2", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", all(lacks("\r\n b"), has("\r\n\r\nok"))),
		heard("content cut short", "RFC 9112 section 8", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", has("Content-Length: 20")),
		heard("content cut short, in chunks", "RFC 9112 section 8", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", lacks("\r\n0\r\n")),
	)
}
