package destination

import (
	"net/netip"
	"strings"
)

// maxName and maxLabel are RFC 1035 section 2.3.4's limits in the text form
// without a trailing dot.
const (
	maxName  = 253
	maxLabel = 63
)

// ParseHost reads a host alone, as policy tools, configuration and the TLS
// server name check have it: a name, or an IP literal in its canonical text
// (IPv6 without brackets). It returns the canonical host, and a valid addr if
// and only if it is an IP literal. ParseHost of its own result is the same
// again. Errors are of type *[Error].
//
// Labels are 1 to 63 bytes of letters, digits, hyphens and underscores, with no
// hyphen at either end. The underscore is not in RFC 952's host names, but real
// service names carry it and every resolver passes it on. A-labels (xn--…) are
// taken as they are: nothing here or later turns them into Unicode.
func ParseHost(s string) (host string, addr netip.Addr, err error) {
	if strings.IndexByte(s, '@') >= 0 {
		return "", netip.Addr{}, userinfo()
	}
	if strings.HasPrefix(s, "[") {
		return "", netip.Addr{}, problem(ProblemAddress, "%s: a host by itself is written without brackets", quote(s))
	}
	if strings.IndexByte(s, ':') >= 0 {
		if addr, err = parseIPv6(s); err != nil {
			return "", netip.Addr{}, err
		}
		return s, addr, nil
	}
	return parseName(s)
}

// parseSplitHost reads the host of an authority, where IPv6 has its brackets.
func parseSplitHost(s string) (string, netip.Addr, error) {
	if !strings.HasPrefix(s, "[") {
		return parseName(s)
	}
	inner := s[1 : len(s)-1]
	addr, err := parseIPv6(inner)
	if err != nil {
		return "", netip.Addr{}, err
	}
	return inner, addr, nil
}

// parseIPv6 takes the text of RFC 5952 and no other: no zone (RFC 6874 would
// let a client choose the interface), and no IPv4-mapped address (the kernel
// dials those as IPv4, so the same place would have two names).
func parseIPv6(s string) (netip.Addr, error) {
	if strings.IndexByte(s, '%') >= 0 {
		return netip.Addr{}, problem(ProblemAddress, "%s: an address with a zone, or a percent sign, is not a target", quote(s))
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is6() {
		return netip.Addr{}, problem(ProblemAddress, "%s is not an IPv6 address, and a colon stands in no other host", quote(s))
	}
	if addr.Is4In6() {
		return netip.Addr{}, problem(ProblemAddress, "%s is an IPv4-mapped address: write %s", quote(s), addr.Unmap())
	}
	if !spelledAs(addr, s) {
		return netip.Addr{}, problem(ProblemAddress, "%s is not the canonical spelling (RFC 5952) of the address: write %s", quote(s), addr)
	}
	return addr, nil
}

// parseName reads a name or an IPv4 literal.
func parseName(s string) (name string, addr netip.Addr, err error) {
	if s == "" {
		return "", netip.Addr{}, problem(ProblemHost, "the host is empty")
	}
	name = strings.TrimSuffix(s, ".")
	upper, err := checkLabels(s, name)
	if err != nil {
		return "", netip.Addr{}, err
	}
	if len(name) > maxName {
		return "", netip.Addr{}, problem(ProblemHost, "host %s has %d bytes; a name has at most %d", quote(s), len(name), maxName)
	}
	if upper {
		name = strings.ToLower(name)
	}
	if !endsInNumber(name) {
		return name, netip.Addr{}, nil
	}
	if addr, err = parseIPv4(s, name); err != nil {
		return "", netip.Addr{}, err
	}
	return name, addr, nil
}

// checkLabels checks the labels of a name, which was written as s, and reports whether
// it has upper-case letters.
func checkLabels(s, name string) (upper bool, err error) {
	start, hyphen := 0, false // of the current label; whether the previous byte was a hyphen
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if err := checkLabel(name, start, i, hyphen); err != nil {
				return false, err
			}
			start, hyphen = i+1, false
			continue
		}
		c := name[i]
		hyphen = c == '-'
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
		case c == '-':
			if i == start {
				return false, problem(ProblemHost, "host %s has a label that begins with a hyphen", quote(s))
			}
		case 'A' <= c && c <= 'Z':
			upper = true
		default:
			return false, prohibitedByte(s, c)
		}
	}
	return upper, nil
}

// checkLabel checks the label name[start:end]; hyphen: it ends in one.
func checkLabel(name string, start, end int, hyphen bool) error {
	switch {
	case start == end:
		return problem(ProblemHost, "host %s has an empty label", quote(name))
	case end-start > maxLabel:
		return problem(ProblemHost, "host %s has a label of %d bytes; a label has at most %d", quote(name), end-start, maxLabel)
	case hyphen:
		return problem(ProblemHost, "host %s has a label that ends with a hyphen", quote(name))
	}
	return nil
}

// prohibitedByte explains a byte that stands in no host name.
func prohibitedByte(host string, c byte) error {
	switch {
	case c >= 0x80:
		return notASCII(host)
	case c == '%':
		return problem(ProblemByte, "host %s has a percent-escape: write the name itself", quote(host))
	case c == '*':
		return problem(ProblemByte, "host %s has a wildcard: a target is one host", quote(host))
	}
	return problem(ProblemByte, "host %s has the byte %s, which no host name has", quote(host), quote(string(rune(c))))
}

// endsInNumber is the WHATWG URL standard's "ends in a number" check: a host
// whose last label is a decimal or hexadecimal number is an IPv4 address to
// browsers and to inet_aton(3), in one of a dozen spellings, and never a name.
// The name is in lower case and has no trailing dot.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits, hexadecimal := strings.CutPrefix(last, "0x")
	for i := range len(digits) {
		c := digits[i]
		if '0' <= c && c <= '9' || hexadecimal && 'a' <= c && c <= 'f' {
			continue
		}
		return false
	}
	return true
}

// parseIPv4 takes the canonical dotted quad and no other spelling. The trailing
// dot that a name may have is not part of it.
func parseIPv4(s, name string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err == nil && spelledAs(addr, s) {
		return addr, nil
	}
	if addr, err = netip.ParseAddr(name); err == nil {
		return netip.Addr{}, problem(ProblemAddress, "%s is an address with a trailing dot: write %s", quote(s), addr)
	}
	return netip.Addr{}, problem(ProblemAddress,
		"%s ends in a number, so it is an IPv4 address, but not four plain decimal numbers from 0 to 255: short, octal and hexadecimal spellings are refused", quote(s))
}

// spelledAs reports whether s is the canonical text of addr, without allocating.
func spelledAs(addr netip.Addr, s string) bool {
	var buffer [64]byte
	return string(addr.AppendTo(buffer[:0])) == s
}
