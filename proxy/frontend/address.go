package frontend

import "net/netip"

// host returns what counts as one address: for IPv6 the /64, because one host can
// have that many addresses.
func host(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
