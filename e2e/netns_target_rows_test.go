package e2e

import "golang.org/x/net/dns/dnsmessage"

// rows are all attempts.
func (s *space) rows() []*row {
	var all []*row
	for _, part := range [][]*row{s.targetRows(), s.addressRows(), s.headRows(), s.framingRows(), s.hopRows(), s.responseRows(), s.helloRows()} {
		all = append(all, part...)
	}
	return all
}

// fillZone gives names their addresses.
func (s *space) fillZone() {
	z := s.zone
	z.other = dnsAnswer{addrs: []string{s.public}, ttl: 60}
	for _, a := range prohibited {
		z.at(a.name+".open.example", dnsAnswer{addrs: []string{a.address}, ttl: 60})
	}
	z.at("blocked.open.example", dnsAnswer{addrs: []string{s.public}, ttl: 300})
	z.at("alias.open.example", dnsAnswer{alias: "db.corp.test", addrs: []string{"10.1.2.3"}, ttl: 60})
	z.at("alias-good.open.example", dnsAnswer{alias: "cdn.elsewhere.test", addrs: []string{s.public}, ttl: 60})
	z.at("mixed.open.example", dnsAnswer{addrs: []string{"10.1.2.3", s.public, "169.254.169.254"}, ttl: 60})
	z.at("both.open.example", dnsAnswer{addrs: []string{s.public, s.public6}, ttl: 60})
	z.at("own.anything.example", dnsAnswer{addrs: []string{"127.0.0.1"}, ttl: 60})
	z.at("missing.open.example", dnsAnswer{code: dnsmessage.RCodeNameError})
	z.at("failing.open.example", dnsAnswer{code: dnsmessage.RCodeServerFailure})
	z.at("empty.open.example", dnsAnswer{ttl: 60})
	z.at("poison.open.example", dnsAnswer{addrs: []string{s.public}, ttl: 60, more: map[string]string{"victim.open.example": "10.1.2.3"}})
	z.at("unasked.open.example", dnsAnswer{more: map[string]string{"elsewhere.open.example": s.public}, ttl: 60})
	// The first answer is harmless, and may not be kept; the next one is not.
	z.names["rebind.open.example"] = func(n int, _ bool) dnsAnswer {
		if n%2 == 0 {
			return dnsAnswer{addrs: []string{s.public}}
		}
		return dnsAnswer{addrs: []string{"10.1.2.3"}}
	}
	// Half an answer by UDP, and the whole of it by TCP.
	z.names["truncated.open.example"] = func(_ int, tcp bool) dnsAnswer {
		if tcp {
			return dnsAnswer{addrs: []string{s.public}, ttl: 60}
		}
		return dnsAnswer{addrs: []string{"10.1.2.3"}, ttl: 60, cut: true}
	}
}

// connect is a CONNECT's head.
func connect(target string) string {
	return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n{auth}\r\n"
}

// targetRows are spellings of targets.
func (s *space) targetRows() []*row {
	var rows []*row
	// The first row with a name is the one that sees it looked up: then it is known.
	denied := []string{"order", "verdict"}
	for _, r := range []struct {
		name, source, target string
		status               int
		reason               string
		controls             []string
	}{
		{"denied name", "RFC 9110 section 9.3.6", "blocked.open.example:{tls}", 403, "policy_denied", denied},
		{"no rule", "RFC 9110 section 9.3.6", "elsewhere.test:{tls}", 403, "no_rule_matched", denied},
		{"denied name in mixed case", "RFC 4343 section 2", "BLOCKED.Open.eXample:{tls}", 403, "policy_denied", []string{"verdict", "target"}},
		{"denied name with a trailing dot", "CVE-2022-24825", "blocked.open.example.:{tls}", 403, "policy_denied", []string{"verdict", "target"}},
		{"two trailing dots", "RFC 1035 section 3.1", "blocked.open.example..:{tls}", 400, "target_invalid", []string{"target"}},
		{"name in brackets", "CVE-2022-29188", "[blocked.open.example]:{tls}", 400, "target_invalid", []string{"target"}},
		{"userinfo", "RFC 9110 section 4.2.4", "user@{host}:{tls}", 400, "target_invalid", []string{"target"}},
		{"userinfo that looks like a target", "RFC 3986 section 7.6", "elsewhere.test:443@{host}:{tls}", 400, "target_invalid", []string{"target"}},
		{"denied address", "RFC 9110 section 9.3.6", "44.1.2.4:{tls}", 403, "policy_denied", []string{"verdict"}},
		{"decimal address", "RFC 3986 section 7.4; inet_aton(3)", "738263556:{tls}", 400, "target_invalid", []string{"target"}},
		{"hexadecimal address", "RFC 3986 section 7.4; inet_aton(3)", "0x2c010204:{tls}", 400, "target_invalid", []string{"target"}},
		{"octal address", "RFC 3986 section 7.4; CVE-2021-29923", "054.01.02.04:{tls}", 400, "target_invalid", []string{"target"}},
		{"short address", "RFC 3986 section 7.4; inet_aton(3)", "44.1.516:{tls}", 400, "target_invalid", []string{"target"}},
		{"mapped address", "RFC 4291 section 2.5.5.2", "[::ffff:44.1.2.4]:{tls}", 400, "target_invalid", []string{"target"}},
		{"mapped address in hexadecimal", "RFC 5952 section 5", "[::ffff:2c01:204]:{tls}", 400, "target_invalid", []string{"target"}},
		{"address with a trailing dot", "WHATWG URL section 3.5", "44.1.2.4.:{tls}", 400, "target_invalid", []string{"target"}},
		{"address with a zone", "RFC 9844 section 3", "[2a01:4f8::1%25lo]:{tls}", 400, "target_invalid", []string{"target"}},
		{"IPv6 address that is not canonical", "RFC 5952 section 4", "[2A01:04F8:0:0::1]:{tls}", 400, "target_invalid", []string{"target"}},
		{"full-width letters", "RFC 5891 section 5.3; UTS 46", "ｂlocked.open.example:{tls}", 400, "target_invalid", []string{"target"}},
		{"ideographic full stop", "RFC 3490 section 3.1", "blocked。open.example:{tls}", 400, "target_invalid", []string{"target"}},
		{"escaped dot", "RFC 3986 section 2.1", "blocked%2eopen.example:{tls}", 400, "target_invalid", []string{"target"}},
		{"NUL, escaped", "RFC 9110 section 5.5", "{host}%00.elsewhere.test:{tls}", 400, "target_invalid", []string{"target"}},
		{"no port", "RFC 9112 section 3.2.3", "{host}", 400, "target_invalid", nil},
		{"port with a sign", "RFC 3986 section 3.2.3", "{host}:+{tls}", 400, "target_invalid", []string{"target"}},
		{"port with a zero in front", "RFC 3986 section 3.2.3", "{host}:0{tls}", 400, "target_invalid", []string{"target"}},
		{"port past the end", "RFC 9293 section 3.1", "{host}:65979", 400, "target_invalid", nil},
		{"port 0", "RFC 6335 section 6", "{host}:0", 400, "target_invalid", nil},
		{"only a port", "net/http dials localhost for it", ":{tls}", 400, "target_invalid", nil},
		{"only a slash", "net/http dials localhost for it", "/", 400, "target_invalid", nil},
		{"a path behind it", "RFC 9112 section 3.2.3", "{host}:{tls}/x", 400, "target_invalid", nil},
		{"a URL", "RFC 9112 section 3.2.3", "https://{host}:{tls}", 400, "target_invalid", nil},
		{"a label of 64 bytes", "RFC 1035 section 2.3.4", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.open.example:{tls}", 400, "target_invalid", []string{"target"}},
	} {
		rows = append(rows, &row{name: "target: " + r.name, source: r.source, controls: r.controls, send: connect(r.target), status: r.status, reason: r.reason})
	}
	for _, r := range []struct{ name, source, uri string }{
		{"userinfo", "RFC 9110 section 4.2.4", "http://blocked.open.example@{host}:{http}/"},
		{"backslash", "WHATWG URL section 4.4", `http://{host}:{http}\@blocked.open.example/`},
		{"https", "RFC 9112 section 3.2.2", "https://{host}:{http}/"},
		{"ftp", "RFC 9110 section 4.2", "ftp://{host}:{http}/"},
		{"fragment", "RFC 9112 section 3.2", "http://{host}:{http}/#x"},
		{"no authority", "RFC 9110 section 4.2.1", "http:///etc/passwd"},
		{"octal address", "RFC 3986 section 7.4", "http://0177.0.0.1:{http}/"},
		{"mapped address", "RFC 4291 section 2.5.5.2", "http://[::ffff:10.1.2.3]:{http}/"},
		{"zone", "RFC 9844 section 3", "http://[fe80::1%25eth0]:{http}/"},
	} {
		rows = append(rows, &row{name: "URL: " + r.name, source: r.source, status: 400, reason: "target_invalid",
			send: "GET " + r.uri + " HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n"})
	}
	return append(rows,
		&row{name: "URL: denied name in mixed case", source: "RFC 3986 section 6.2.2.1", controls: denied[1:], status: 403, reason: "policy_denied",
			send: "GET HTTP://Blocked.OPEN.example:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n"},
		&row{name: "Host says something else", source: "RFC 9112 section 3.2.2", status: 200, dials: []string{"{public}:{http}"},
			checkSent: all(once, lacks("blocked.open.example"), has("\r\nHost: r")),
			send:      "GET http://{host}:{http}/ HTTP/1.1\r\nHost: blocked.open.example\r\n{auth}Connection: close\r\n\r\n"},
		&row{name: "Host of a CONNECT says something else", source: "RFC 9112 section 3.2.3", controls: denied[1:], status: 403, reason: "policy_denied",
			send: "CONNECT blocked.open.example:{tls} HTTP/1.1\r\nHost: {host}:{tls}\r\n{auth}\r\n"})
}

// prohibited are addresses that names of the outside must not lead to.
var prohibited = []struct{ name, address, source string }{
	{"private-10", "10.1.2.3", "RFC 1918 section 3"},
	{"private-172", "172.16.0.1", "RFC 1918 section 3"},
	{"private-192", "192.168.1.1", "RFC 1918 section 3"},
	{"shared", "100.64.0.1", "RFC 6598 section 7"},
	{"loopback", "127.0.0.2", "RFC 1122 section 3.2.1.3"},
	{"this-network", "0.0.0.0", "RFC 1122 section 3.2.1.3"},
	{"this-network-2", "0.1.2.3", "RFC 791 section 3.2"},
	{"metadata", "169.254.169.254", "the metadata services of AWS, Azure and Google Cloud"},
	{"metadata-ecs", "169.254.170.2", "Amazon ECS, task credentials"},
	{"metadata-alibaba", "100.100.100.200", "Alibaba Cloud, instance metadata"},
	{"wire-server", "168.63.129.16", "Azure, the wire server"},
	{"link-local", "169.254.1.1", "RFC 3927 section 2.7"},
	{"protocol", "192.0.0.8", "RFC 6890 section 2.2.2"},
	{"benchmark", "198.18.0.1", "RFC 2544 section C.2.2"},
	{"documentation", "203.0.113.5", "RFC 5737 section 3"},
	{"relay", "192.88.99.1", "RFC 7526 section 4"},
	{"multicast", "224.0.0.1", "RFC 5771 section 3"},
	{"class-e", "240.0.0.1", "RFC 1112 section 4"},
	{"broadcast", "255.255.255.255", "RFC 919 section 7"},
	{"loopback-6", "::1", "RFC 4291 section 2.5.3"},
	{"unspecified-6", "::", "RFC 4291 section 2.5.2"},
	{"compatible", "::10.1.2.3", "RFC 4291 section 2.5.5.1"},
	{"mapped", "::ffff:10.1.2.3", "RFC 4291 section 2.5.5.2"},
	{"nat64", "64:ff9b::10.1.2.3", "RFC 6052 section 2.1"},
	{"nat64-local", "64:ff9b:1::10.1.2.3", "RFC 8215 section 4"},
	{"6to4", "2002:a01:203::1", "RFC 3056 section 2"},
	{"teredo", "2001:0:a01:203::1", "RFC 4380 section 4"},
	{"unique-local", "fd12:3456::1", "RFC 4193 section 3.1"},
	{"metadata-6", "fd00:ec2::254", "AWS, instance metadata over IPv6"},
	{"site-local", "fec0::1", "RFC 3879 section 4"},
	{"documentation-6", "2001:db8::1", "RFC 3849 section 2"},
	{"documentation-20", "3fff::1", "RFC 9637 section 3"},
	{"unallocated", "4000::1", "IANA IPv6 address space"},
}

func (s *space) addressRows() []*row {
	var rows []*row
	for _, a := range prohibited {
		r := &row{name: "address: " + a.name, source: a.source, controls: []string{"addresses"},
			send: connect(a.name + ".open.example:{tls}"), status: 403, reason: "address_prohibited"}
		if a.name == "mapped" { // is not even an answer
			r.controls, r.status, r.reason = nil, 502, "name_unresolved"
		}
		rows = append(rows, r)
	}
	yes := true
	name := func(name, source, host string, controls ...string) *row {
		return &row{name: "name: " + name, source: source, controls: controls, send: connect(host + ":{http}"), mayResolve: &yes}
	}
	refused := func(r *row, status int, reason string) *row {
		r.status, r.reason = status, reason
		return r
	}
	reaches := func(name, source, host, to string, controls ...string) *row {
		return &row{name: "name: " + name, source: source, controls: controls, mayResolve: &yes,
			send:   "GET http://" + host + ":{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n\r\n",
			status: 200, dials: []string{to}, checkSent: once}
	}
	elsewhere := func(r *row) *row {
		r.elsewhere = true
		return r
	}
	return append(rows,
		refused(name("an alias of an inner name", "RFC 1034 section 3.6.2", "alias.open.example", "addresses"), 403, "address_prohibited"),
		reaches("an alias of an outer name", "RFC 1034 section 3.6.2", "alias-good.open.example", "{public}:{http}"),
		elsewhere(reaches("public and private addresses", "RFC 1918 section 3", "mixed.open.example", "{public}:{http}", "addresses", "pin")),
		elsewhere(reaches("both families", "RFC 8305 section 4", "both.open.example", "[{public6}]:{http}")),
		elsewhere(reaches("rebinding", "Jackson et al., Protecting Browsers from DNS Rebinding Attacks, 2007", "rebind.open.example", "{public}:{http}", "pin")),
		reaches("truncated", "RFC 2181 section 9", "truncated.open.example", "{public}:{http}"),
		reaches("records that nobody asked for", "RFC 5452 section 6", "poison.open.example", "{public}:{http}"),
		reaches("whose address came unasked before", "RFC 5452 section 6", "victim.open.example", "{public}:{http}"),
		refused(name("an answer about another name", "RFC 5452 section 6", "unasked.open.example"), 502, "name_unresolved"),
		refused(name("that does not exist", "RFC 8020 section 2", "missing.open.example"), 502, "name_unresolved"),
		refused(name("whose servers fail", "RFC 9520 section 2.1", "failing.open.example"), 502, "name_unresolved"),
		refused(name("without addresses", "RFC 2308 section 2.2", "empty.open.example"), 502, "name_unresolved"),
		refused(name("that leads to our own listener", "RFC 9110 section 7.3.3; CWE-441", "own.anything.example", "own", "addresses"), 403, "address_prohibited").at("{proxy}"),
		refused(name("that leads to our own admin listener", "CWE-918", "own.anything.example", "own", "addresses"), 403, "address_prohibited").at("{admin}"),
		&row{name: "address: of the metadata service, as itself", source: "CWE-918", controls: []string{"addresses"},
			send: connect("169.254.169.254:{tls}"), status: 403, reason: "address_prohibited"},
		&row{name: "address: ours, as itself", source: "CWE-441", controls: []string{"own", "addresses"}, send: connect("127.0.0.1:{proxy}"), status: 403, reason: "address_prohibited"},
		&row{name: "address: nothing listens", source: "RFC 9110 section 15.6.3", send: connect("{host}:{dead}"), status: 502, reason: "target_unreachable", dials: []string{"{public}:{dead}"}, optional: true},
	)
}

// at is the row with another port.
func (r *row) at(port string) *row {
	r.send = connect("own.anything.example:" + port)
	return r
}
