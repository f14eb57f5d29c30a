package components

import "net/netip"

// AddressTexts returns the addresses as host:port.
func AddressTexts(addresses []netip.AddrPort) []string {
	list := make([]string, len(addresses))
	for i, a := range addresses {
		list[i] = a.String()
	}
	return list
}
