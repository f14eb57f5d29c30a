package proxy

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Guard decides which addresses may be dialed. It refuses every address that is not
// globally routable unicast (RFC 6890 and IANA's special-purpose address registries). An
// IPv6 address outside 2000::/3 is refused even if no list contains it.
//
// This instance's own listeners are always refused. An address of one of this machine's
// interfaces is refused on every port unless AllowNetworks contains it. The zero Guard
// refuses every address that is not global.
//
// The fields must not change after the first use. The methods are safe for concurrent use.
type Guard struct {
	AllowNetworks []netip.Prefix // permitted although they are not global
	DenyNetworks  []netip.Prefix // refused; they override AllowNetworks
	// Own lists the addresses that this instance listens on. An unspecified address
	// means every address of this machine.
	Own []netip.AddrPort

	local localAddresses
}

// Class is the class of an address, as it appears in logs and events.
type Class string

// The classes.
const (
	ClassGlobal    Class = "global"
	ClassAllowed   Class = "allowed" // in AllowNetworks
	ClassDenied    Class = "denied"  // in DenyNetworks
	ClassOwn       Class = "own"     // a listener of this instance, or an address of this machine
	ClassMetadata  Class = "metadata"
	ClassLoopback  Class = "loopback"
	ClassPrivate   Class = "private"
	ClassLinkLocal Class = "link_local"
	ClassMulticast Class = "multicast"
	ClassReserved  Class = "reserved"
	ClassInvalid   Class = "invalid"
)

// Permits reports whether an address and port of this class may be dialed.
func (c Class) Permits() bool { return c == ClassGlobal || c == ClassAllowed }

// Classify returns the class of an address; [Class.Permits] reports whether it may be
// dialed. An IPv4-mapped IPv6 address has the class of its IPv4 address, which is what the
// kernel would dial.
func (g *Guard) Classify(to netip.AddrPort) Class {
	addr := to.Addr().Unmap()
	if !addr.IsValid() || addr.Zone() != "" || to.Port() == 0 {
		return ClassInvalid
	}
	if contains(g.DenyNetworks, addr) {
		return ClassDenied
	}
	if g.isOwn(netip.AddrPortFrom(addr, to.Port())) {
		return ClassOwn
	}
	if contains(g.AllowNetworks, addr) {
		return ClassAllowed
	}
	class := classOf(addr)
	// The name of an allowed host may resolve to this machine's public address. Services
	// there may trust connections from the machine itself.
	if class == ClassGlobal && g.local.has(addr) {
		return ClassOwn
	}
	return class
}

func (g *Guard) isOwn(to netip.AddrPort) bool {
	for _, own := range g.Own {
		if own.Port() != to.Port() {
			continue
		}
		listen := own.Addr().Unmap().WithZone("")
		// A connection to the unspecified address reaches this machine.
		if listen == to.Addr() || to.Addr().IsUnspecified() {
			return true
		}
		if listen.IsUnspecified() && (to.Addr().IsLoopback() || g.local.has(to.Addr())) {
			return true
		}
	}
	return false
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		// An IPv4-mapped network means the IPv4 network: addr is unmapped already.
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

type network struct {
	prefix netip.Prefix
	class  Class
}

func networks(class Class, prefixes ...string) []network {
	list := make([]network, len(prefixes))
	for i, p := range prefixes {
		list[i] = network{netip.MustParsePrefix(p), class}
	}
	return list
}

func join(lists ...[]network) []network {
	var all []network
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// special4 lists the IPv4 networks that are not global, the most specific class first. Any
// other IPv4 address is global (IANA IPv4 Special-Purpose Address Registry).
var special4 = join(
	// Metadata services: link-local (AWS, Azure, GCP …), Azure's wire server, Alibaba's.
	networks(ClassMetadata, "169.254.169.254/32", "169.254.170.2/32", "168.63.129.16/32", "100.100.100.200/32"),
	networks(ClassLoopback, "127.0.0.0/8"),
	networks(ClassPrivate, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
	networks(ClassLinkLocal, "169.254.0.0/16"),
	networks(ClassMulticast, "224.0.0.0/4"),
	networks(ClassReserved, "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
		"192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
)

// special6 is the same list for IPv6. An IPv6 address is global only inside 2000::/3 (IANA
// IPv6 Address Space) and outside this list. Within 2000::/3 the list has protocol
// assignments (Teredo, ORCHID, benchmarking), documentation, AS112 and 6to4, whose
// addresses embed an IPv4 address.
var special6 = join(
	networks(ClassMetadata, "fd00:ec2::254/128", "fd20:ce::254/128"),
	networks(ClassLoopback, "::1/128"),
	networks(ClassPrivate, "fc00::/7", "fec0::/10"),
	networks(ClassLinkLocal, "fe80::/10"),
	networks(ClassMulticast, "ff00::/8"),
	networks(ClassReserved, "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
)

var global6 = netip.MustParsePrefix("2000::/3")

func classOf(addr netip.Addr) Class {
	list := special6
	if addr.Is4() {
		list = special4
	}
	for _, n := range list {
		if n.prefix.Contains(addr) {
			return n.class
		}
	}
	if addr.Is4() || global6.Contains(addr) {
		return ClassGlobal
	}
	return ClassReserved
}

// localAddresses caches this machine's interface addresses for localAddressesTTL.
// Interfaces change while the process runs, and a system call for each dial is expensive.
type localAddresses struct {
	interfaces func() ([]net.Addr, error) // nil: net.InterfaceAddrs; tests replace it

	mu    sync.Mutex
	until time.Time
	set   map[netip.Addr]bool
}

const localAddressesTTL = 5 * time.Second

func (l *localAddresses) has(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.After(l.until) {
		interfaces := l.interfaces
		if interfaces == nil {
			interfaces = net.InterfaceAddrs
		}
		addrs, err := interfaces()
		if err != nil {
			// Fail closed: while the machine's addresses are unknown, any could be ours.
			return true
		}
		l.set = make(map[netip.Addr]bool, len(addrs))
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				l.set[p.Addr().Unmap().WithZone("")] = true
			}
		}
		l.until = now.Add(localAddressesTTL)
	}
	return l.set[addr]
}
