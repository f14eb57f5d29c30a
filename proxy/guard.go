package proxy

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Guard decides which addresses may be dialed. An address that is not globally routable
// unicast is refused (RFC 6890 and IANA's special-purpose address registries), so that a
// range which no list contains is refused too. AllowNetworks are the operator's
// exceptions, DenyNetworks are refused whatever else holds, and this instance's own
// listeners are never reached. An address of one of this machine's interfaces is refused
// on every port unless AllowNetworks has it. The zero Guard refuses all that is not
// global. A Guard is read-only once in use.
type Guard struct {
	AllowNetworks []netip.Prefix
	DenyNetworks  []netip.Prefix
	// Own are the addresses that this instance listens on. An unspecified
	// address stands for every address of this machine.
	Own []netip.AddrPort

	local localAddresses
}

// Class is what kind of address an address is: a word for logs and events.
type Class string

// The classes.
const (
	ClassGlobal    Class = "global"
	ClassAllowed   Class = "allowed" // by the operator's exception
	ClassDenied    Class = "denied"  // by the operator
	ClassOwn       Class = "own"     // this instance, or another service of this machine
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

// Classify returns the class of an address, which decides whether it may be dialed. A
// mapped IPv4 address has the class of the IPv4 address that the kernel would dial.
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
	// The name of an allowed host may lead to this machine's public address, and
	// so to services that trust what comes from the machine itself.
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
		// A network of mapped IPv4 addresses is the IPv4 network, as an address is.
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

// special4 holds what is not global, the most telling class first. IPv4 is
// global unless it stands here (IANA IPv4 Special-Purpose Address Registry).
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

// special6 is the same for IPv6, which is global only inside 2000::/3 (IANA IPv6 Address Space), and there
// unless it stands here: protocol assignments (Teredo, ORCHID, benchmarking),
// documentation, 6to4, which wraps an IPv4 address, and AS112.
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

// localAddresses remembers this machine's addresses for a moment: interfaces
// come and go while the process runs, and asking the kernel for each dial is dear.
type localAddresses struct {
	interfaces func() ([]net.Addr, error) // nil: net.InterfaceAddrs; a test has addresses of its own

	mu    sync.Mutex
	until time.Time
	set   map[netip.Addr]bool
}

const localAddressesFor = 5 * time.Second

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
		l.until = now.Add(localAddressesFor)
	}
	return l.set[addr]
}
