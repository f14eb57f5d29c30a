package e2e

// networkMutations remove the controls that TestNetwork's rows name, besides
// those of mutations. They make of the program what a careless one would be.
var networkMutations = []mutation{
	{"target", "../proxy/authenticate.go",
		"p.target, err = destination.ParseAuthority(p.attempt.Target)",
		"p.target, err = destination.ParseAuthority(p.attempt.Target)\n\t\tif without(\"target\") {\n\t\t\tp.target, err = loose(p.attempt.Target)\n\t\t}"},
	{"target", "../proxy/dns/dns.go",
		"case canonical != host || addr.IsValid():",
		"case without(\"target\") && !addr.IsValid():\n\t\thost = canonical\n\tcase canonical != host || addr.IsValid():"},
	{"pin", "../proxy/admissiondial.go",
		"a.gate.config.Dialer.dial(ctx, a.Addresses)",
		"a.gate.config.Dialer.dial(ctx, a.anew(ctx))"},
	{"pin", "../proxy/dial.go", "&& !without(\"addresses\") {", "&& !without(\"addresses\") && !without(\"pin\") {"},
	{"pin", "../proxy/dns/flight.go", "if f.result.ttl > 0 {", "if f.result.ttl > 0 && !without(\"pin\") {"},
	{"own", "../proxy/guard.go",
		"if g.isOwn(netip.AddrPortFrom(addr, to.Port())) {",
		"if g.isOwn(netip.AddrPortFrom(addr, to.Port())) && !without(\"own\") {"},
	{"lines", "../proxy/frontend/parsehead.go", "\tif i == 0 || b[i-1] != '\\r' {",
		"\tif without(\"lines\") {\n\t\treturn bytes.TrimSuffix(b[:i], crlf[:1]), b[i+1:], nil\n\t}\n\tif i == 0 || b[i-1] != '\\r' {"},
	{"lines", "../proxy/frontend/parsehead.go", "\tfor _, c := range value {\n\t\tif c < 0x20",
		"\tfor _, c := range value {\n\t\tif c == '\\r' && without(\"lines\") {\n\t\t\tcontinue\n\t\t}\n\t\tif c < 0x20"},
	{"lines", "../proxy/frontend/parsehead.go", "func (h *head) folded() *proxy.Refusal {",
		"func (h *head) folded() *proxy.Refusal {\n\tif without(\"lines\") && len(h.fields) > 0 {\n\t\treturn nil\n\t}"},
	{"lines", "../proxy/frontend/readhead.go", "\t\tif i == s.line || b[i-1] != '\\r' {",
		"\t\tif without(\"lines\") {\n\t\t\tempty := i == s.line || i == s.line+1 && b[s.line] == '\\r'\n\t\t\ts.seen, s.line = i+1, i+1\n\t\t\tif empty {\n\t\t\t\treturn true, nil\n\t\t\t}\n\t\t\tcontinue\n\t\t}\n\t\tif i == s.line || b[i-1] != '\\r' {"},
	{"framing", "../proxy/frontend/framing.go", "\tif h.has.length {",
		"\tif without(\"framing\") {\n\t\th.length = looseLength(value)\n\t\treturn nil\n\t}\n\tif h.has.length {"},
	{"framing", "../proxy/frontend/framing.go", "\tif h.has.coding {",
		"\tif without(\"framing\") {\n\t\th.chunked = h.chunked || bytes.Contains(value, []byte(\"chunked\"))\n\t\treturn nil\n\t}\n\tif h.has.coding {"},
	{"framing", "../proxy/frontend/framing.go", "\tconnect := string(h.method) == \"CONNECT\"",
		"\tif without(\"framing\") {\n\t\treturn nil\n\t}\n\tconnect := string(h.method) == \"CONNECT\""},
	{"hop", "../proxy/frontend/hop.go", "return strings.HasPrefix(name, \"Proxy-\")",
		"return strings.HasPrefix(name, \"Proxy-\") && !without(\"hop\")"},
	{"nominated", "../proxy/frontend/hop.go", "if option = strings.Trim(option, \" \\t\"); option != \"\" {",
		"if option = strings.Trim(option, \" \\t\"); option != \"\" && !without(\"nominated\") {"},
	{"via", "../proxy/frontend/request.go", "strings.EqualFold(string(parts[1]), pseudonym) {",
		"strings.EqualFold(string(parts[1]), pseudonym) && !without(\"via\") {"},
	{"ours", "../proxy/frontend/responsehead.go", "func isOurs(name string) bool { return ",
		"func isOurs(name string) bool { return !without(\"ours\") && "},
	{"answers", "../proxy/goproxy/transport.go", "if problem := unfit(resp); problem != \"\" {",
		"if problem := unfit(resp); problem != \"\" && !without(\"answers\") {"},
}

// networkMutants are the sources that these need beside the program's own.
var networkMutants = map[string]string{
	"../proxy/loose_mutant.go": `package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/destination"
)

// loose reads a target as many programs do: whatever can be made something of.
func loose(s string) (destination.Target, error) {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return destination.Target{}, err
	}
	port, err := strconv.Atoi(digits)
	if err != nil || host == "" || port < 1 || port > 65535 {
		return destination.Target{}, errors.New("no host and port")
	}
	t := destination.Target{Host: host, Port: uint16(port)}
	plain, _, _ := strings.Cut(host, "%25")
	if addr, err := netip.ParseAddr(plain); err == nil {
		t.Addr = addr.Unmap()
	} else {
		t.Addr = aton(strings.TrimSuffix(host, "."))
	}
	return t, nil
}

// aton is inet_aton(3).
func aton(s string) netip.Addr {
	parts := strings.Split(s, ".")
	var value uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 0, 32)
		if err != nil || len(parts) > 4 {
			return netip.Addr{}
		}
		if i == len(parts)-1 {
			value = value<<(8*(5-len(parts))) | n
		} else {
			value = value<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)})
}

// again resolves the name once more, when it is dialed.
func (a *Admission) anew(ctx context.Context) []netip.AddrPort {
	if !without("pin") || a.Target.IsAddress() {
		return a.Addresses
	}
	found, _ := a.gate.config.Resolver.Resolve(ctx, subject(a.Principal), a.Target.Host)
	var all []netip.AddrPort
	for _, addr := range found {
		all = append(all, netip.AddrPortFrom(addr, a.Target.Port))
	}
	return all
}
`,
	"../proxy/frontend/without_mutant.go": `package frontend

import "os"

func without(control string) bool { return os.Getenv("SALLYPORT_WITHOUT") == control }

// looseLength is atoi(3).
func looseLength(value []byte) (n int64) {
	for _, c := range value {
		if c >= '0' && c <= '9' && n < 1000 {
			n = n*10 + int64(c-'0')
		} else if n > 0 {
			break
		}
	}
	return min(n, 5)
}
`,
	"../proxy/dns/without_mutant.go":     "package dns\n\nimport \"os\"\n\nfunc without(control string) bool { return os.Getenv(\"SALLYPORT_WITHOUT\") == control }\n",
	"../proxy/goproxy/without_mutant.go": "package goproxy\n\nimport \"os\"\n\nfunc without(control string) bool { return os.Getenv(\"SALLYPORT_WITHOUT\") == control }\n",
}
