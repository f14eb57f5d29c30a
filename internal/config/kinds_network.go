package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// listenAddress is IP:port or :port. Names are refused: a resolver decides their meaning, and it must not decide
// whether a listener is on loopback.
var listenAddress = kind[string]{
	name: "address", want: "an address such as 127.0.0.1:3128",
	parse: func(_ *decoder, text string) (string, *problem) {
		if port, all := strings.CutPrefix(text, ":"); all {
			if _, ok := parsePort(port); ok {
				return text, nil
			}
			return "", wanted("an address such as 127.0.0.1:3128", text, "a port is a number from 0 to 65535")
		}
		address, p := addrPort(text, "127.0.0.1:3128")
		if p != nil {
			return "", p
		}
		return address.String(), nil
	},
}

var resolver = kind[netip.AddrPort]{
	name: "address", want: "an address such as 10.0.0.2:53",
	parse: func(_ *decoder, text string) (netip.AddrPort, *problem) {
		address, p := addrPort(text, "10.0.0.2:53")
		switch {
		case p != nil:
			return netip.AddrPort{}, p
		case address.Port() == 0:
			return netip.AddrPort{}, wanted("an address such as 10.0.0.2:53", text, "DNS answers on port 53")
		case address.Addr().IsUnspecified() || address.Addr().IsMulticast():
			return netip.AddrPort{}, wanted("the address of one DNS server", text, "")
		}
		return address, nil
	},
}

func addrPort(text, example string) (netip.AddrPort, *problem) {
	want := "an address such as " + example
	address, err := netip.ParseAddrPort(text)
	if err == nil && !address.Addr().Is4In6() {
		return address, nil
	}
	_, port, _ := strings.Cut(example, ":")
	host, givenPort, hasPort := strings.Cut(text, ":")
	switch bare, bareErr := netip.ParseAddr(strings.Trim(text, "[]")); {
	case err == nil:
		return netip.AddrPort{}, wanted(want, text, "write the IPv4 address: "+netip.AddrPortFrom(address.Addr().Unmap(), address.Port()).String())
	case bareErr == nil && bare.Is4():
		return netip.AddrPort{}, wanted(want, text, "add the port: "+bare.String()+":"+port)
	case bareErr == nil:
		return netip.AddrPort{}, wanted(want, text, "put an IPv6 address in brackets and add the port: ["+bare.String()+"]:"+port)
	case host == "localhost" && hasPort:
		return netip.AddrPort{}, wanted(want, text, "names are not accepted here: write 127.0.0.1:"+shorten(givenPort))
	default:
		return netip.AddrPort{}, wanted(want, text, "it is an IP address, a colon and a port; names are not accepted here")
	}
}

func parsePort(text string) (uint16, bool) {
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err == nil && strconv.FormatUint(port, 10) == text
}

// loopback reports whether an address of the kind listenAddress can be reached from this machine only.
func loopback(address string) bool {
	parsed, err := netip.ParseAddrPort(address)
	return err == nil && parsed.Addr().IsLoopback()
}

// collide reports whether two listen addresses cannot be bound at the same time.
func collide(a, b string) bool {
	split := func(address string) (netip.Addr, string) {
		if port, all := strings.CutPrefix(address, ":"); all {
			return netip.IPv6Unspecified(), port
		}
		parsed, _ := netip.ParseAddrPort(address)
		return parsed.Addr(), strconv.Itoa(int(parsed.Port()))
	}
	// Go listens on [::] for both families.
	covers := func(wide, narrow netip.Addr) bool {
		return wide.IsUnspecified() && (wide.Is6() || narrow.Is4())
	}
	hostA, portA := split(a)
	hostB, portB := split(b)
	return portA == portB && portA != "0" && (hostA == hostB || covers(hostA, hostB) || covers(hostB, hostA))
}

// network is a CIDR prefix in its one canonical spelling.
var network = kind[netip.Prefix]{
	name: "network", want: "a network such as 10.1.0.0/16",
	parse: func(d *decoder, text string) (netip.Prefix, *problem) {
		const want = "a network such as 10.1.0.0/16"
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
				return netip.Prefix{}, wanted(want, text, "for one address write "+netip.PrefixFrom(address, address.BitLen()).String())
			}
			return netip.Prefix{}, wanted(want, text, "it is an IP address, a slash and the number of its leading bits")
		}
		if prefix.Addr().Is4In6() {
			return netip.Prefix{}, wanted(want, text, "write the IPv4 network")
		}
		if masked := prefix.Masked(); masked != prefix {
			return netip.Prefix{}, problemf("write "+masked.String(), "%s has bits set behind its prefix length", quote(text))
		}
		if prefix.Bits() == 0 && strings.HasPrefix(d.current, "egress.allow_networks") {
			d.warn(d.current, "name the networks that are meant",
				"this excepts every address from the ranges that are always refused, loopback and metadata services included")
		}
		return prefix, nil
	},
}

// webURL is https, or http on a loopback address: what is fetched from it decides who may pass, and a token is sent
// to it. It may not carry a user name, a query or a fragment.
var webURL = kind[*url.URL]{
	name: "URL", want: "a URL such as https://api.bitbucket.org/2.0",
	parse: func(_ *decoder, text string) (*url.URL, *problem) {
		return parseURL(text, "https")
	},
}

// endpoint is a URL like webURL, as text.
var endpoint = kind[string]{
	name: "URL", want: "a URL such as https://checkpoints.example/log",
	parse: func(_ *decoder, text string) (string, *problem) {
		u, p := parseURL(text, "https")
		if p != nil {
			return "", p
		}
		return u.String(), nil
	},
}

var issuer = kind[string]{
	name: "URL", want: "a URL such as https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
	parse: func(d *decoder, text string) (string, *problem) {
		if _, p := parseURL(text, "https"); p != nil {
			return "", p
		}
		if strings.HasSuffix(text, "/") {
			d.warn(d.current, "remove it unless the OpenID Connect page of the workspace shows it",
				"the issuer ends with a slash, which Bitbucket's do not; it is compared exactly")
		}
		return text, nil
	},
}

// gitURL is https or ssh, or http on a loopback address.
var gitURL = kind[*url.URL]{
	name: "URL", want: "a URL such as https://bitbucket.org/acme/policy.git",
	parse: func(_ *decoder, text string) (*url.URL, *problem) {
		if !strings.Contains(text, "://") && strings.Contains(text, "@") && strings.Contains(text, ":") {
			return nil, problemf("write ssh://USER@HOST/PATH", "want a URL such as ssh://git@bitbucket.org/acme/policy.git, found git's short form")
		}
		return parseURL(text, "https", "ssh")
	},
}

// parseURL never repeats a URL that may hold a password.
func parseURL(text string, schemes ...string) (*url.URL, *problem) {
	want := "a URL that begins with " + strings.Join(schemes, ":// or ") + "://"
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		if strings.Contains(text, "@") {
			return nil, problemf("", "want %s", want)
		}
		return nil, wanted(want, text, "")
	}
	if p := urlProblem(u, text, want); p != nil {
		return nil, p
	}
	if slices.Contains(schemes, u.Scheme) {
		return u, nil
	}
	if u.Scheme != "http" {
		return nil, wanted(want, text, "")
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil && address.IsLoopback() {
		return u, nil
	}
	return nil, problemf("use https://", "http:// is accepted on a loopback address such as http://127.0.0.1:8080 only")
}

// urlProblem refuses the parts that the URL of a service does not have.
func urlProblem(u *url.URL, text, want string) *problem {
	switch {
	case u.User != nil && (u.Scheme != "ssh" || hasPassword(u)):
		return problemf("remove it and name a file with the secret", "the URL has a user name or password in it")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return problemf("remove it", "the URL has a query or a fragment")
	case u.Port() != "" && !validPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
		return wanted(want, text, "its port is not a number from 1 to 65535")
	}
	return nil
}

func hasPassword(u *url.URL) bool { _, has := u.User.Password(); return has }

func validPort(text string) bool { port, ok := parsePort(text); return ok && port != 0 }
