package proxy

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// last is the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// TestSpecialNetworks has every row of IANA's two special-purpose registries (as of 2025)
// and of the address spaces that are not global unicast: the first and the last address
// must be refused, and the neighbors have their own class.
func TestSpecialNetworks(t *testing.T) {
	tests := []struct {
		network       string
		class         Class
		before, after bool // the neighbor is global
	}{
		{"0.0.0.0/8", ClassReserved, false, true},
		{"10.0.0.0/8", ClassPrivate, true, true},
		{"100.64.0.0/10", ClassPrivate, true, true},
		{"127.0.0.0/8", ClassLoopback, true, true},
		{"169.254.0.0/16", ClassLinkLocal, true, true},
		{"172.16.0.0/12", ClassPrivate, true, true},
		{"192.0.0.0/24", ClassReserved, true, true},
		{"192.0.0.0/29", ClassReserved, true, false},
		{"192.0.0.8/32", ClassReserved, false, false},
		{"192.0.0.9/32", ClassReserved, false, false},
		{"192.0.0.170/31", ClassReserved, false, false},
		{"192.0.2.0/24", ClassReserved, true, true},
		{"192.31.196.0/24", ClassReserved, true, true},
		{"192.52.193.0/24", ClassReserved, true, true},
		{"192.88.99.0/24", ClassReserved, true, true},
		{"192.168.0.0/16", ClassPrivate, true, true},
		{"192.175.48.0/24", ClassReserved, true, true},
		{"198.18.0.0/15", ClassReserved, true, true},
		{"198.51.100.0/24", ClassReserved, true, true},
		{"203.0.113.0/24", ClassReserved, true, true},
		{"224.0.0.0/4", ClassMulticast, true, false},
		{"240.0.0.0/4", ClassReserved, false, false},
		{"255.255.255.255/32", ClassReserved, false, false},
		{"168.63.129.16/32", ClassMetadata, true, true},
		{"169.254.169.254/32", ClassMetadata, false, false},
		{"169.254.170.2/32", ClassMetadata, false, false},
		{"100.100.100.200/32", ClassMetadata, false, false},

		{"::/128", ClassReserved, false, false},
		{"::1/128", ClassLoopback, false, false},
		{"::/96", ClassReserved, false, false}, // IPv4-compatible; the last is ::255.255.255.255
		{"64:ff9b::/96", ClassReserved, false, false},
		{"64:ff9b:1::/48", ClassReserved, false, false},
		{"100::/64", ClassReserved, false, false},
		{"100:0:0:1::/64", ClassReserved, false, false},
		{"200::/7", ClassReserved, false, false},
		{"2001::/23", ClassReserved, true, true},
		{"2001::/32", ClassReserved, true, false}, // Teredo
		{"2001:1::1/128", ClassReserved, false, false},
		{"2001:2::/48", ClassReserved, false, false},
		{"2001:3::/32", ClassReserved, false, false},
		{"2001:4:112::/48", ClassReserved, false, false},
		{"2001:10::/28", ClassReserved, false, false},
		{"2001:20::/28", ClassReserved, false, false},
		{"2001:30::/28", ClassReserved, false, false},
		{"2001:db8::/32", ClassReserved, true, true},
		{"2002::/16", ClassReserved, true, true}, // 6to4
		{"2620:4f:8000::/48", ClassReserved, true, true},
		{"3fff::/20", ClassReserved, true, true},
		{"4000::/3", ClassReserved, true, false},
		{"5f00::/16", ClassReserved, false, false},
		{"fc00::/7", ClassPrivate, false, false},
		{"fe80::/10", ClassLinkLocal, false, false},
		{"fec0::/10", ClassPrivate, false, false},
		{"ff00::/8", ClassMulticast, false, false},
		{"fd00:ec2::254/128", ClassMetadata, false, false},
		{"fd20:ce::254/128", ClassMetadata, false, false},
	}
	var g Guard
	for _, test := range tests {
		p := netip.MustParsePrefix(test.network)
		first, end := p.Addr(), last(p)
		for _, a := range []netip.Addr{first, end} {
			got := g.Classify(netip.AddrPortFrom(a, 443))
			// The ends of ::/96 and of 0.0.0.0/8 have classes of their own, no less refused.
			if got.Permits() || got != test.class {
				t.Errorf("%s of %s is %s, want %s", a, p, got, test.class)
			}
			if a.Is4() {
				mapped := netip.AddrPortFrom(netip.AddrFrom16(a.As16()), 443)
				if got := g.Classify(mapped); got != test.class {
					t.Errorf("%s is %s, want %s", mapped.Addr(), got, test.class)
				}
			}
		}
		for _, n := range []struct {
			addr   netip.Addr
			global bool
		}{{first.Prev(), test.before}, {end.Next(), test.after}} {
			if !n.addr.IsValid() || n.addr.BitLen() != first.BitLen() {
				continue
			}
			if got := g.Classify(netip.AddrPortFrom(n.addr, 443)); got.Permits() != n.global {
				t.Errorf("%s, beside %s, is %s", n.addr, p, got)
			}
		}
	}
}

func TestInvalidAddresses(t *testing.T) {
	g := Guard{AllowNetworks: prefixes("0.0.0.0/0", "::/0")}
	for _, to := range []netip.AddrPort{
		{}, netip.AddrPortFrom(netip.Addr{}, 443), netip.MustParseAddrPort("93.184.216.34:0"),
		netip.MustParseAddrPort("[fe80::1%eth0]:443"), netip.MustParseAddrPort("[2606:2800:220:1::1%1]:443"),
	} {
		if got := g.Classify(to); got != ClassInvalid {
			t.Errorf("%v is %s", to, got)
		}
	}
}

func TestNetworkPrecedence(t *testing.T) {
	g := Guard{
		AllowNetworks: prefixes("10.0.0.0/8", "fd00::/8", "::ffff:192.168.7.0/120", "169.254.169.254/32"),
		DenyNetworks:  prefixes("10.9.0.0/16", "93.184.216.0/24", "2606:2800::/32", "::ffff:1.1.1.0/120"),
		Own:           []netip.AddrPort{netip.MustParseAddrPort("10.1.1.1:3128")},
	}
	for to, want := range map[string]Class{
		"10.1.2.3:443": ClassAllowed, "[::ffff:10.1.2.3]:443": ClassAllowed, "[fd12::1]:443": ClassAllowed,
		"192.168.7.1:443": ClassAllowed, "192.168.8.1:443": ClassPrivate, "169.254.169.254:80": ClassAllowed,
		"10.9.0.1:443": ClassDenied, "93.184.216.34:443": ClassDenied, "[2606:2800::1]:443": ClassDenied,
		"1.1.1.1:443": ClassDenied, "[::ffff:1.1.1.1]:443": ClassDenied, "1.1.2.1:443": ClassGlobal,
		"10.1.1.1:3128": ClassOwn, "[::ffff:10.1.1.1]:3128": ClassOwn, "10.1.1.1:3129": ClassAllowed,
		"172.16.0.1:443": ClassPrivate, "8.8.8.8:53": ClassGlobal,
	} {
		if got := g.Classify(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s is %s, want %s", to, got, want)
		}
	}
}

// TestOwnAddresses allows every network, so that only what is this instance
// itself is left to be refused.
func TestOwnAddresses(t *testing.T) {
	everything := prefixes("0.0.0.0/0", "::/0")
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	mine := []netip.Addr{}
	for _, i := range interfaces {
		mine = append(mine, netip.MustParsePrefix(i.String()).Addr().Unmap())
	}
	for _, listen := range []string{"0.0.0.0:3128", "[::]:3128", "[::ffff:0.0.0.0]:3128"} {
		g := Guard{AllowNetworks: everything, Own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9128"), netip.MustParseAddrPort(listen)}}
		for _, a := range append(mine, netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.255.255.254"), netip.MustParseAddr("::1"),
			netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("::ffff:0.0.0.0")) {
			if got := g.Classify(netip.AddrPortFrom(a, 3128)); got != ClassOwn {
				t.Errorf("listening on %s, %s is %s", listen, a, got)
			}
			if got := g.Classify(netip.AddrPortFrom(a, 3130)); got != ClassAllowed {
				t.Errorf("listening on %s, %s with another port is %s", listen, a, got)
			}
		}
		if got := g.Classify(netip.MustParseAddrPort("127.0.0.1:9128")); got != ClassOwn {
			t.Errorf("the second listener is %s", got)
		}
		if got := g.Classify(netip.MustParseAddrPort("93.184.216.34:3128")); got != ClassAllowed {
			t.Errorf("somebody else's port is %s", got)
		}
	}
	g := Guard{AllowNetworks: everything, Own: []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%eth0]:3128"), netip.MustParseAddrPort("127.0.0.1:3129")}}
	for to, want := range map[string]Class{
		"[fe80::1]:3128": ClassOwn, "127.0.0.1:3129": ClassOwn, "0.0.0.0:3129": ClassOwn, "[::]:3129": ClassOwn, "127.0.0.2:3129": ClassAllowed,
	} {
		if got := g.Classify(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s is %s, want %s", to, got, want)
		}
	}
}

// interfacesOf are the addresses of a machine's interfaces.
func interfacesOf(list ...string) func() ([]net.Addr, error) {
	return func() ([]net.Addr, error) {
		var addrs []net.Addr
		for _, text := range list {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				return nil, err
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		return addrs, nil
	}
}

// TestMachineAddresses: the global addresses of this machine's interfaces are
// refused on every port, unless the operator allows them.
func TestMachineAddresses(t *testing.T) {
	machine := interfacesOf("127.0.0.1/8", "93.184.216.34/24", "10.1.2.3/8", "2606:2800:220:1::1/64", "fe80::1/64")
	for _, c := range []struct {
		allow string
		to    string
		want  Class
	}{
		{"", "93.184.216.34:443", ClassOwn},
		{"", "93.184.216.34:22", ClassOwn},
		{"", "[::ffff:93.184.216.34]:443", ClassOwn},
		{"", "[2606:2800:220:1::1]:5432", ClassOwn},
		{"", "93.184.216.35:443", ClassGlobal}, // a neighbor in the same network
		{"", "[2606:2800:220:1::2]:443", ClassGlobal},
		{"", "10.1.2.3:443", ClassPrivate}, // refused already
		{"", "127.0.0.1:443", ClassLoopback},
		{"93.184.216.34/32", "93.184.216.34:443", ClassAllowed},
		{"93.184.216.34/32", "93.184.216.34:3128", ClassOwn}, // the listener is never allowed
		{"2606:2800:220:1::/64", "[2606:2800:220:1::1]:443", ClassAllowed},
		{"93.184.216.34/32", "[2606:2800:220:1::1]:443", ClassOwn},
	} {
		g := Guard{Own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:3128")}}
		g.local.interfaces = machine
		if c.allow != "" {
			g.AllowNetworks = prefixes(c.allow)
		}
		if got := g.Classify(netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("allow_networks [%s]: %s is %s, want %s", c.allow, c.to, got, c.want)
		}
	}
	g := Guard{}
	g.local.interfaces = func() ([]net.Addr, error) { return nil, net.UnknownNetworkError("no interfaces") }
	if got := g.Classify(netip.MustParseAddrPort("93.184.216.34:443")); got.Permits() {
		t.Errorf("while the interfaces are unknown, a global address is %s", got)
	}
}

// TestMachineAddressesIsNeeded: with interfaces that do not have the address, an
// allowed name reaches another service of this machine.
func TestMachineAddressesIsNeeded(t *testing.T) {
	for _, c := range []struct {
		interfaces string
		permits    bool
	}{{"93.184.216.34/24", false}, {"93.184.216.99/24", true}} {
		g := Guard{Own: []netip.AddrPort{netip.MustParseAddrPort("93.184.216.34:3128")}}
		g.local.interfaces = interfacesOf(c.interfaces)
		if got := g.Classify(netip.MustParseAddrPort("93.184.216.34:22")); got.Permits() != c.permits {
			t.Errorf("with %s the address is %s", c.interfaces, got)
		}
	}
}

// TestGuardIsNeeded takes the guard away and sees the attack succeed: an allowed
// name that leads to a server on this machine.
func TestGuardIsNeeded(t *testing.T) {
	server := proxytest.Listen(t, "127.0.0.1:0")
	reach := func(guard *Guard) policy.Reason {
		w := newEnv()
		w.guard = guard
		w.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		port := server.Addr().(*net.TCPAddr).AddrPort()
		if _, refusal := w.gate(t).Admit(t.Context(), attempt(port.String())); refusal == nil {
			t.Fatal("an IP literal was admitted")
		}
		a, refusal := w.gate(t).Admit(t.Context(), attempt("internal.example:"+port.String()[len("127.0.0.1:"):]))
		if refusal != nil {
			return refusal.Reason
		}
		conn, refusal := a.Dial(t.Context())
		if refusal != nil {
			return refusal.Reason
		}
		_ = conn.Close()
		return ""
	}
	if got := reach(&Guard{}); got != policy.AddressProhibited {
		t.Errorf("with the guard: %q", got)
	}
	if got := reach(&Guard{AllowNetworks: prefixes("127.0.0.0/8")}); got != "" {
		t.Errorf("without the guard the attack should have worked, but: %s", got)
	}
	own := &Guard{AllowNetworks: prefixes("127.0.0.0/8"), Own: []netip.AddrPort{server.Addr().(*net.TCPAddr).AddrPort()}}
	if got := reach(own); got != policy.AddressProhibited {
		t.Errorf("own address: %q", got)
	}
}

// FuzzClassify: whatever an address is, what netip knows to be special is
// permitted only inside an exception, and never what is denied.
func FuzzClassify(f *testing.F) {
	for _, a := range []string{"127.0.0.1", "10.0.0.1", "93.184.216.34", "::1", "fe80::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1", "0.0.0.0"} {
		f.Add(netip.MustParseAddr(a).AsSlice(), uint16(443))
	}
	plain := &Guard{}
	excepting := &Guard{AllowNetworks: prefixes("10.0.0.0/8", "fd00::/8"), DenyNetworks: prefixes("10.1.0.0/16", "8.0.0.0/8")}
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		to, bare := netip.AddrPortFrom(addr, port), addr.Unmap()
		special := bare.IsLoopback() || bare.IsPrivate() || bare.IsLinkLocalUnicast() || bare.IsMulticast() || bare.IsUnspecified() || port == 0
		class := plain.Classify(to)
		if class.Permits() && (special || !bare.IsGlobalUnicast()) {
			t.Fatalf("%v is %s", to, class)
		}
		if again := plain.Classify(netip.AddrPortFrom(netip.AddrFrom16(addr.As16()), port)); bare.Is4() && again != class {
			t.Fatalf("%v is %s, and mapped it is %s", to, class, again)
		}
		excepted := contains(excepting.AllowNetworks, bare) && !contains(excepting.DenyNetworks, bare)
		if c := excepting.Classify(to); c.Permits() && (special && !excepted || contains(excepting.DenyNetworks, bare)) {
			t.Fatalf("%v is %s", to, c)
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	for name, to := range map[string]string{"global4": "93.184.216.34:443", "global6": "[2606:2800:220:1::1]:443", "private": "10.0.0.1:443"} {
		b.Run(name, func(b *testing.B) {
			g := &Guard{Own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:3128")}}
			addr := netip.MustParseAddrPort(to)
			b.ReportAllocs()
			for b.Loop() {
				g.Classify(addr)
			}
		})
	}
}
