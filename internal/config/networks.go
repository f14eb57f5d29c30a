package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// metadataAddresses are where clouds hand credentials and secrets to the machine
// that asks, by the vendors' documentation.
var metadataAddresses = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google Cloud, Oracle, OpenStack, …
	netip.MustParseAddr("169.254.170.2"),   // AWS: containers
	netip.MustParseAddr("169.254.170.23"),  // AWS: pods
	netip.MustParseAddr("169.254.42.42"),   // Scaleway
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS: pods
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
}

// networks warns of exceptions that never count, and of those that open a cloud's
// metadata service.
func (d *decoder) networks(e Egress) {
	if d.failed["egress.allow_networks"] || d.failed["egress.deny_networks"] {
		return
	}
	for i, allowed := range e.AllowNetworks {
		path := fmt.Sprintf("egress.allow_networks[%d]", i)
		if d.failed[path] {
			continue
		}
		if by := covering(allowed, e.DenyNetworks); len(by) > 0 {
			d.warn(path, "remove it, or narrow deny_networks, which beats every exception",
				"the exception never counts: egress.deny_networks has %s", strings.Join(by, " and "))
			continue
		}
		if allowed.Bits() == 0 {
			continue // has a warning of its own
		}
		var opened []string
		for _, a := range metadataAddresses {
			if allowed.Contains(a) && !inAny(a, e.DenyNetworks) {
				opened = append(opened, a.String())
			}
		}
		if len(opened) > 0 {
			d.warn(path, "narrow it, or put the address into egress.deny_networks",
				"this opens a cloud's metadata service, which hands out credentials: %s", strings.Join(opened, ", "))
		}
	}
}

// covering are the networks of a list that together cover all of n; empty if they
// do not.
func covering(n netip.Prefix, list []netip.Prefix) []string {
	var inside []netip.Prefix
	for _, other := range list {
		if !other.Overlaps(n) {
			continue
		}
		if other.Bits() <= n.Bits() {
			return []string{other.String()}
		}
		inside = append(inside, other)
	}
	// Of networks that lie in n without covering it alone, the two halves have to be
	// covered; no more halves are made than there are networks and bits.
	if len(inside) == 0 {
		return nil
	}
	low := netip.PrefixFrom(n.Addr(), n.Bits()+1)
	high := netip.PrefixFrom(upperHalf(n), n.Bits()+1)
	first := covering(low, inside)
	if len(first) == 0 {
		return nil
	}
	second := covering(high, inside)
	if len(second) == 0 {
		return nil
	}
	return append(first, second...)
}

// upperHalf is the first address of the upper half of a network that is not a single
// address.
func upperHalf(n netip.Prefix) netip.Addr {
	b := n.Addr().AsSlice()
	b[n.Bits()/8] |= 0x80 >> (n.Bits() % 8)
	a, _ := netip.AddrFromSlice(b)
	return a
}

func inAny(a netip.Addr, list []netip.Prefix) bool {
	for _, n := range list {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
