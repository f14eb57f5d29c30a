package check

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/internal/destination"
)

// hostPattern judges an entry of lib.host_in: a host, or *. and a name.
func hostPattern(s string) mistake {
	if s == "*" {
		return mistake{message: "a bare * is not a host pattern", hint: "name the hosts; a rule for every host does not read input.target.host"}
	}
	name, wild := strings.CutPrefix(s, "*.")
	if m := neverMatches(s, name); !m.none() {
		return m
	}
	if _, err := destination.ParsePattern(s); err != nil && wild {
		return never(s, "an IP address has no names before it", "write the address itself")
	}
	return mistake{}
}

// exactHost judges a value that input.target.host is compared with.
func exactHost(s string) mistake {
	switch {
	case s == "*":
		return hostPattern(s)
	case strings.HasPrefix(s, "*."):
		return mistake{message: fmt.Sprintf("%q is compared literally and never matches", s), hint: "use data.sallyport.lib.host_in for patterns", warning: true}
	}
	return neverMatches(s, s)
}

// targetEntry judges an entry of lib.target_in: a host pattern, or one with a port.
func targetEntry(s string) mistake {
	host, port, ok := cutPort(s)
	if !ok {
		return hostPattern(s)
	}
	if m := hostPattern(host); !m.none() {
		return m
	}
	if why := badPort(port); why != "" {
		return never(s, why, "write a port from 1 to 65535 behind the colon, in digits alone")
	}
	return mistake{}
}

// cutPort separates the port from an entry of lib.target_in.
func cutPort(s string) (host, port string, ok bool) {
	if rest, found := strings.CutPrefix(s, "["); found {
		host, rest, found = strings.Cut(rest, "]")
		port, hasPort := strings.CutPrefix(rest, ":")
		return host, port, found && hasPort
	}
	if strings.Contains(s, "://") || strings.Count(s, ":") != 1 {
		return s, "", false
	}
	return strings.Cut(s, ":")
}

// badPort is the fault of the digits of a port; "" if there is none.
func badPort(s string) string {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return "it has no port from 1 to 65535 as the client sends it"
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return "a port has digits alone"
		}
		n = 10*n + int(s[i]-'0')
	}
	if n > 65535 {
		return "there is no port above 65535"
	}
	return ""
}

// neverMatches judges a name that must be a canonical host: a whole value, or the part of
// a pattern after "*.".
func neverMatches(s, name string) mistake {
	if m := unreadableHost(s, name); !m.none() {
		return m
	}
	if strings.Contains(name, ":") {
		if a, err := netip.ParseAddr(name); err == nil && a.String() == name {
			return mistake{}
		} else if err == nil {
			return never(s, "the address is not in its canonical form", "write "+a.String())
		}
		return never(s, "a host has no scheme and no port", "write the host alone, and compare input.target.port")
	}
	if m := moreThanAHost(s, name); !m.none() {
		return m
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		return never(s, "a host is written in A-labels", "write it as xn--…")
	}
	if name != strings.ToLower(name) {
		return never(s, "a host is in lower case", "write "+strings.ToLower(s))
	}
	if host, _, err := destination.ParseHost(name); err != nil || host != name {
		why := "it is not a host in its canonical form"
		if err != nil {
			why = strings.TrimPrefix(err.Error(), "target: ")
		}
		return never(s, why, "write the host as the log has it")
	}
	return mistake{}
}

// unreadableHost finds an empty text, and characters that a reader does not see.
func unreadableHost(s, name string) mistake {
	switch {
	case name == "":
		return never(s, "it is empty", "write a host name")
	case strings.TrimSpace(name) != name:
		return never(s, "there is a space before or behind it", "write "+strings.TrimSpace(s))
	}
	for _, r := range name {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || r != ' ' && unicode.IsSpace(r) {
			return never(s, fmt.Sprintf("it has an invisible character, U+%04X", r), "type it again instead of copying it")
		}
	}
	return mistake{}
}

// moreThanAHost finds a pattern, a network, a URL and a list in the place of a host.
func moreThanAHost(s, name string) mistake {
	switch {
	case strings.Contains(name, "*"):
		return never(s, "a * stands only at the beginning, before a dot", "write *.example.com")
	case strings.HasSuffix(name, "."):
		return never(s, "a host has no dot at its end", "write "+strings.TrimRight(s, "."))
	case strings.HasPrefix(name, "."):
		return never(s, "a host does not begin with a dot", "write *"+name+" with data.sallyport.lib.host_in")
	case isNetwork(name):
		return never(s, "a host is not a network", "use net.cidr_contains with input.target.host, for targets that are addresses")
	case strings.ContainsAny(name, "/ ?#"):
		return never(s, "a host has no path and no space", "write the host alone")
	case strings.ContainsAny(name, ",;|"):
		return never(s, "it is more than one host", "write a list: one text for each host")
	}
	return mistake{}
}

func isNetwork(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}
