package netcheck

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/printable"
)

// ParseAddress parses an IP address with an optional port: 192.0.2.1, 192.0.2.1:443,
// 2001:db8::1 or [2001:db8::1]:443. It rejects names, because a name would be resolved
// over the network that is being tested, and addresses that cannot be outside the step:
// unspecified, multicast, and, unless loopback is set, loopback addresses.
func ParseAddress(text string, port uint16, loopback bool) (netip.AddrPort, error) {
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		var ip netip.Addr
		if ip, err = netip.ParseAddr(text); err != nil {
			return netip.AddrPort{}, fmt.Errorf("%s is not an IP address with an optional port: write 192.0.2.1:443 or [2001:db8::1]:443", printable.Quote(text))
		}
		address = netip.AddrPortFrom(ip, port)
	}
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	switch ip := address.Addr(); {
	case address.Port() == 0:
		return netip.AddrPort{}, fmt.Errorf("%s has port 0: give a port from 1 to 65535", printable.Quote(text))
	case ip.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("%s has a zone: give an address outside the step's own link", printable.Quote(text))
	case ip.IsUnspecified(), ip.IsMulticast():
		return netip.AddrPort{}, fmt.Errorf("%s is not an address of one host: give a unicast address", printable.Quote(text))
	case ip.IsLoopback() && !loopback:
		return netip.AddrPort{}, fmt.Errorf("%s is inside the step: give an address outside", printable.Quote(text))
	}
	return address, nil
}
