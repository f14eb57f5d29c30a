// Package destination parses the host and port of a request into canonical form.
//
// If a target had two spellings, policy could evaluate one and the dialer connect to the
// other. Only this package makes the canonical form. Policy, DNS, the dialer, the TLS
// server name check and the audit log all use it.
//
// A spelling without an obvious canonical form is refused, not repaired. Programs disagree
// about the meaning of such spellings, and each disagreement can bypass a policy. A
// trailing dot (CVE-2022-24825) and a pair of brackets (CVE-2022-29188) bypassed another
// proxy's deny list.
//
// Two differences are normalized, because every program reads them alike: upper case
// becomes lower case, and one trailing dot is removed.
//
// The package has no state. Its functions and values are safe for concurrent use.
package destination

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is the destination of a request, in canonical form. Policy treats two targets as
// the same destination if and only if they are equal by ==.
//
// The zero Target is not a target; only this package's functions make valid ones.
type Target struct {
	// Scheme is "" for a CONNECT and "http" for an absolute-form request.
	Scheme string
	// Host is a lower-case name of A-labels without a trailing dot, or the
	// canonical text of an IP literal (IPv6 without brackets, RFC 5952).
	Host string
	// Port is never 0 in a valid Target.
	Port uint16
	// Addr is valid if and only if Host is an IP literal. It never has a zone
	// and is never an IPv4-mapped IPv6 address.
	Addr netip.Addr
}

// String returns host:port, with an IPv6 address in brackets. [ParseAuthority] parses it to
// the same Target, except for Scheme.
func (t Target) String() string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// IsAddress reports whether the target is an IP literal and not a name.
func (t Target) IsAddress() bool { return t.Addr.IsValid() }

// ParseAuthority parses the authority-form of a CONNECT (RFC 9110 section 9.3.6,
// RFC 9112 section 3.2.3): host ":" port and nothing else. The port has no
// default. Errors are of type *[Error].
func ParseAuthority(s string) (Target, error) {
	if err := checkAuthorityBytes(s); err != nil {
		return Target{}, err
	}
	host, port, ok, err := splitAuthority(s)
	if err != nil {
		return Target{}, err
	}
	if !ok {
		return Target{}, problem(ProblemPort, "%s has no port: write host:port", quote(s))
	}
	return build("", host, port)
}

// build parses the host and the port of an authority and returns the Target.
func build(scheme, host, port string) (Target, error) {
	name, addr, err := parseSplitHost(host)
	if err != nil {
		return Target{}, err
	}
	number, err := parsePort(port)
	if err != nil {
		return Target{}, err
	}
	return Target{Scheme: scheme, Host: name, Port: number, Addr: addr}, nil
}

// checkAuthorityBytes rejects bytes that no authority can contain. The error names the
// likely mistake.
func checkAuthorityBytes(s string) error {
	if s == "" {
		return problem(ProblemForm, "the target is empty: write host:port")
	}
	if strings.IndexByte(s, '@') >= 0 {
		return userinfo()
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/' || c == '?' || c == '#':
			if strings.Contains(s, "://") {
				return problem(ProblemForm, "%s is a URL: a CONNECT names host:port and nothing else", quote(s))
			}
			return problem(ProblemForm, "%s holds more than a host and a port: write host:port", quote(s))
		case c < 0x21 || c == 0x7f:
			return problem(ProblemByte, "%s holds a space or a control byte", quote(s))
		}
	}
	return nil
}

// splitAuthority separates the host (with its brackets) and the port. ok is false if no
// colon follows the host.
func splitAuthority(s string) (host, port string, ok bool, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false, problem(ProblemAddress, "%s opens a bracket and does not close it: write [address]:port", quote(s))
		}
		host, rest := s[:end+1], s[end+1:]
		if rest == "" {
			return host, "", false, nil
		}
		if rest[0] != ':' {
			return "", "", false, problem(ProblemAddress, "%s has something other than :port behind the bracket", quote(s))
		}
		return host, rest[1:], true, nil
	}
	host, port, ok = strings.Cut(s, ":")
	if ok && strings.IndexByte(port, ':') >= 0 {
		return "", "", false, problem(ProblemAddress, "%s has more than one colon: an IPv6 address is written in brackets, [address]:port", quote(s))
	}
	return host, port, ok, nil
}

// parsePort parses a port from 1 to 65535 in plain digits. It rejects an empty string, a
// sign, and a leading zero, which some programs read as octal.
func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, problem(ProblemPort, "the port is empty: write host:port")
	}
	if len(s) > 5 {
		return 0, problem(ProblemPort, "port %s is not a number from 1 to 65535 in plain digits", quote(s))
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, problem(ProblemPort, "port %s is not a number from 1 to 65535 in plain digits", quote(s))
		}
		n = n*10 + int(s[i]-'0')
	}
	if s[0] == '0' && n != 0 {
		return 0, problem(ProblemPort, "port %s has a leading zero: write %d", quote(s), n)
	}
	if n < 1 || n > 65535 {
		return 0, problem(ProblemPort, "port %s is not a number from 1 to 65535 in plain digits", quote(s))
	}
	return uint16(n), nil
}
