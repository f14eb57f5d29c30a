package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/proxytest"
)

func resolvesTo(addrs ...netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) { return addrs, nil }
}

func TestGuardedDialer(t *testing.T) {
	server := addrPort(proxytest.Listen(t, "127.0.0.1:0").Addr())
	_, port, err := net.SplitHostPort(server.String())
	if err != nil {
		t.Fatal(err)
	}
	errLookup := errors.New("lookup failed")
	for _, c := range []struct {
		name    string
		dialer  GuardedDialer
		address string
		refused bool
	}{
		{"an allowed address", GuardedDialer{Guard: loopback}, server.String(), false},
		{"a name with an allowed address", GuardedDialer{Guard: loopback, Resolve: resolvesTo(server.Addr())}, "Jenkins.internal:" + port, false},
		{"a name with a private and an allowed address", GuardedDialer{Guard: loopback, Resolve: resolvesTo(netip.MustParseAddr("10.0.0.1"), server.Addr())}, "jenkins.internal:" + port, false},
		{"the zero value", GuardedDialer{}, server.String(), true},
		{"a zero guard", GuardedDialer{Guard: &Guard{}}, server.String(), true},
		{"a name without a resolver", GuardedDialer{Guard: loopback}, "jenkins.internal:" + port, true},
		{"a public name with a private address", GuardedDialer{Guard: &Guard{}, Resolve: resolvesTo(server.Addr())}, "jenkins.example:" + port, true},
		{"a name without an address", GuardedDialer{Guard: loopback, Resolve: resolvesTo()}, "jenkins.internal:" + port, true},
		{"an own listener", GuardedDialer{Guard: &Guard{AllowNetworks: loopback.AllowNetworks, Own: []netip.AddrPort{server}}}, server.String(), true},
		{"another spelling of an address", GuardedDialer{Guard: loopback}, "0x7f000001:" + port, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := c.dialer.DialContext(t.Context(), "tcp", c.address)
			if (err != nil) != c.refused {
				t.Fatalf("DialContext(%s): %v", c.address, err)
			}
			if conn != nil {
				_ = conn.Close()
			}
		})
	}
	failing := GuardedDialer{Guard: loopback, Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errLookup }}
	if _, err := failing.DialContext(t.Context(), "tcp", "jenkins.internal:80"); !errors.Is(err, errLookup) {
		t.Errorf("a failed lookup: %v", err)
	}
}
