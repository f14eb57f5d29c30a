package e2e

import (
	"encoding/binary"
	"strings"
)

// extension is one of a ClientHello (RFC 8446 section 4.2).
type extension struct {
	kind uint16
	body string
}

// vector is bytes behind their length, of so many bytes.
func vector(width int, body string) string {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(body)))
	return string(n[8-width:]) + body
}

// names is a server_name extension (RFC 6066 section 3).
func names(all ...string) extension {
	list := ""
	for _, name := range all {
		list += "\x00" + vector(2, name)
	}
	return extension{0, vector(2, list)}
}

// handshake is a ClientHello with these extensions, without its record.
func handshake(extensions ...extension) string {
	list := ""
	for _, e := range append(extensions, extension{43, "\x02\x03\x04"}) { // supported_versions: TLS 1.3
		list += string([]byte{byte(e.kind >> 8), byte(e.kind)}) + vector(2, e.body)
	}
	return "\x01" + vector(3, "\x03\x03"+strings.Repeat("r", 32)+"\x00"+vector(2, "\x13\x01")+"\x01\x00"+vector(2, list))
}

// record puts handshake bytes into one record.
func record(fragment string) string { return "\x16\x03\x01" + vector(2, fragment) }

// helloRows are tunnels whose first bytes are not what they have to be. Where
// these must not arrive, nothing does.
func (s *space) helloRows() []*row {
	// A row's host depends on its number, and the length of a name stands in the
	// hello: so these have a name of their own.
	const host = "tls.open.example"
	whole := record(handshake(names(host)))
	cut := func(name, source, cause string, pieces ...string) *row {
		return &row{name: "hello: " + name, source: source, controls: []string{"hello"}, send: connect(host + ":{tls}"),
			status: 200, tunnel: pieces, open: true, dials: []string{"{public}:{tls}"}, cause: cause}
	}
	passes := func(name, source, arrives string, pieces ...string) *row {
		return &row{name: "hello: " + name, source: source, send: connect(host + ":{tls}"),
			status: 200, tunnel: pieces, dials: []string{"{public}:{tls}"}, checkSent: exactly(arrives)}
	}
	half := handshake(names(host))
	two := record(half[:20]) + record(half[20:])
	upper := record(handshake(names(strings.ToUpper(host))))
	dotted := record(handshake(names(host + ".")))
	early := passes("sent together with the CONNECT", "RFC 9110 section 9.3.6", whole+"more")
	early.send, early.tunnel = early.send+whole, []string{"more"}
	first := &row{name: "hello: a target that speaks first, where any protocol may", source: "RFC 4253 section 4.2", send: connect("raw.anything.example:{tls}"),
		status: 200, greeting: "SSH-2.0-x\r\n", checkRaw: has("SSH-2.0-x\r\n"), tunnel: []string{"SSH-2.0-y\r\n"}, dials: []string{"{public}:{tls}"}, checkSent: exactly("SSH-2.0-y\r\n")}
	underscore := &row{name: "hello: without a name, to a host with an underscore, where any protocol may", source: "snowflakedb/snowflake-jdbc#2729", send: connect("my_bucket.anything.example:{tls}"),
		status: 200, tunnel: []string{record(handshake())}, dials: []string{"{public}:{tls}"}, checkSent: exactly(record(handshake()))}
	dottedTarget := func(name, sent string) *row {
		r := passes(name, "RFC 1034 section 3.1; netty/netty-tcnative#400", sent, sent)
		r.send, r.controls = connect(host+".:{tls}"), []string{"target"}
		return r
	}
	speaks := cut("a target that speaks first, where it must be TLS", "RFC 8446 section 4", "hello_timeout", "")
	speaks.greeting = "220 mail ready\r\n"
	inside := func(name, source string, hears func(string) string, pieces ...string) *row {
		return &row{name: "hello: an HTTP request " + name, source: source, controls: []string{"hello"}, send: connect(host + ":{tls}"),
			status: 200, tunnel: pieces, dials: []string{"{public}:{tls}"}, cause: "http_request", checkRaw: hears}
	}
	served := inside("for the target", "undici; nodejs/undici#4083", has("HTTP/1.1 200 OK\r\n"),
		"GET /x HTTP/1.1\r\nHost: "+host+":{tls}\r\nConnection: close\r\n\r\n")
	served.dials = append(served.dials, "{public}:{tls}")
	served.response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	served.checkSent = func(sent string) string {
		if !strings.HasPrefix(sent, "GET /x HTTP/1.1\r\nHost: "+host+":") || !strings.Contains(sent, "\r\nVia: 1.1 ") {
			return "the request is not as the proxy forwards it"
		}
		return ""
	}
	half1 := cut("the client ends inside it", "RFC 8446 section 5.1", "hello_invalid", whole[:30])
	half1.open = false
	address := func(name, source string, pieces ...string) *row {
		return &row{name: "hello: " + name, source: source, send: connect("{public}:{tls}"),
			status: 200, tunnel: pieces, dials: []string{"{public}:{tls}"}, checkSent: exactly(strings.Join(pieces, ""))}
	}
	hidden := extension{0xfe0d, "\x00\x00\x01\x00\x01\x01\x00\x00\x00\x00"}
	relaxed := func(host string, r *row) *row {
		r.send = connect(host + ":{tls}")
		return r
	}
	// named is a ClientHello with another server name, for a host whose rule relaxes the check.
	named := func(host, name, source string, extensions ...extension) *row {
		r := relaxed(host, cut(name, source, "hello_mismatch", record(handshake(append(extensions, names("blocked.open.example"))...))))
		r.controls = []string{"hello", "server name"}
		return r
	}
	deniedInReport := named("report.relaxed.example", "for another target that a rule denies in report mode", "RFC 6066 section 3; domain fronting")
	deniedInReport.controls = append(deniedInReport.controls, "verdict")
	smuggled := inside("with a smuggled second request", "RFC 9112 section 6.3", has("HTTP/1.1 400 Sallyport request_invalid\r\n"),
		"POST / HTTP/1.1\r\nHost: "+host+":{tls}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
	smuggled.controls = append(smuggled.controls, "framing")
	ech, noSNI := record(handshake(names("ech.relaxed.example"), hidden)), record(handshake())
	return []*row{
		relaxed("ech.relaxed.example", passes("encrypted, where the rule has ech", "RFC 9849 section 6.2", ech, ech)),
		relaxed("no_sni.relaxed.example", passes("without a name, where the rule has no_sni", "snowflakedb/snowflake-jdbc#2729", noSNI, noSNI)),
		relaxed("report.relaxed.example", passes("without a name, in report mode", "RFC 6066 section 3", noSNI, noSNI)),
		named("ech.relaxed.example", "encrypted, with another outer name, where the rule has ech", "RFC 9849 section 10.1; domain fronting", hidden),
		named("no_sni.relaxed.example", "for another target, where the rule has no_sni", "RFC 6066 section 3; domain fronting"),
		deniedInReport,
		passes("for the target", "RFC 6066 section 3", whole, whole),
		passes("in capitals", "RFC 6066 section 3; RFC 4343", upper, upper),
		passes("with a trailing dot", "RFC 1034 section 3.1; netty/netty-tcnative#400", dotted, dotted),
		passes("over two records", "RFC 8446 section 5.1", two, two),
		passes("byte by byte", "RFC 9293 section 3.8", whole, strings.Split(whole, "")...),
		dottedTarget("with a trailing dot, as the target has one", dotted),
		dottedTarget("without the trailing dot that the target has", whole),
		underscore,
		early,
		first,
		address("to an address, without a name", "RFC 6066 section 3", record(handshake())),
		cut("for another target", "RFC 6066 section 3; domain fronting", "hello_mismatch", record(handshake(names("blocked.open.example")))),
		cut("for another target, over records and segments", "RFC 8446 section 5.1", "hello_mismatch",
			strings.Split(record(handshake(names("evil.open.example"))[:7])+record(handshake(names("evil.open.example"))[7:]), "")...),
		cut("for a name below the target", "RFC 6066 section 3", "hello_mismatch", record(handshake(names("x."+host)))),
		cut("for the target and a NUL", "CVE-2009-2408", "hello_mismatch", record(handshake(names(host+"\x00.evil.example")))),
		cut("with two trailing dots", "RFC 1034 section 3.1", "hello_mismatch", record(handshake(names(host+"..")))),
		cut("for a dot", "RFC 1034 section 3.1", "hello_mismatch", record(handshake(names(".")))),
		cut("for an address", "RFC 6066 section 3", "hello_mismatch", record(handshake(names("10.1.2.3")))),
		cut("for two names", "RFC 6066 section 3", "hello_invalid", record(handshake(names(host, "evil.open.example")))),
		cut("with two lists of names", "RFC 8446 section 4.2", "hello_invalid", record(handshake(names(host), names("evil.open.example")))),
		cut("without a name", "RFC 6066 section 3", "hello_missing", record(handshake())),
		cut("encrypted", "RFC 9849 section 5", "hello_encrypted", record(handshake(names(host), extension{0xfe0d, "\x00\x00\x01\x00\x01\x01\x00\x00\x00\x00"}))),
		cut("of SSL 2", "RFC 6176 section 3", "hello_invalid", "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"),
		cut("PostgreSQL's request for TLS", "PostgreSQL protocol 3.0, SSLRequest", "hello_invalid", "\x00\x00\x00\x08\x04\xd2\x16\x2f"),
		cut("an alert instead", "RFC 8446 section 6", "hello_invalid", "\x15\x03\x01\x00\x02\x02\x28"),
		cut("an empty record in front", "RFC 8446 section 5.1", "hello_invalid", "\x16\x03\x01\x00\x00"+whole),
		cut("a record over the limit", "RFC 8446 section 5.1", "hello_invalid", "\x16\x03\x01\x48\x00\x01"),
		cut("longer than it may be", "RFC 8446 section 4", "hello_too_large",
			record("\x01\x01\x00\x00"+strings.Repeat("a", 8000))+record(strings.Repeat("a", 9000))),
		inside("for another host", "RFC 9110 section 7.2", has("HTTP/1.1 400 Sallyport request_invalid\r\n"), "GET / HTTP/1.1\r\nHost: blocked.open.example\r\n\r\n"),
		inside("for another target", "RFC 9112 section 3.2.2", has("HTTP/1.1 400 Sallyport request_invalid\r\n"),
			"GET http://blocked.open.example/ HTTP/1.1\r\nHost: "+host+":{tls}\r\n\r\n"),
		inside("for another port", "RFC 9110 section 7.2", has("HTTP/1.1 400 Sallyport request_invalid\r\n"), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"),
		inside("that is a CONNECT", "RFC 9110 section 9.3.6", has("HTTP/1.1 400 Sallyport request_invalid\r\n"),
			"CONNECT http://"+host+":{tls}/ HTTP/1.1\r\nHost: "+host+":{tls}\r\n\r\n"),
		smuggled,
		served,
		cut("HTTP/2 without TLS", "RFC 9113 section 3.3", "hello_invalid", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		cut("SSH", "RFC 4253 section 4.2", "hello_invalid", "SSH-2.0-OpenSSH_9.2\r\n"),
		cut("that does not come", "RFC 8446 section 4", "hello_timeout", ""),
		cut("of which only the beginning comes", "RFC 8446 section 5.1", "hello_timeout", whole[:40]),
		half1,
		speaks,
	}
}
