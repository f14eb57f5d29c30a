package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
)

// GuardedDialer dials on behalf of Sallyport itself, with the controls of the gate: it
// resolves a host once, pins the addresses that its guard permits, and connects to one of
// those and to no other. It uses no proxy from the environment. It is safe for concurrent
// use. The zero value refuses every address.
type GuardedDialer struct {
	Guard *Guard
	// Resolve returns the addresses of a canonical name. It is not called for an address.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Timeout time.Duration // for all addresses together; 0: 10 s
}

// DialContext connects to an address of the form host:port over TCP. The network is not
// used. It implements the field DialContext of [net/http.Transport].
func (g *GuardedDialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	target, err := destination.ParseAuthority(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	addrs := []netip.Addr{target.Addr}
	if !target.IsAddress() {
		if g.Resolve == nil {
			return nil, errProhibited
		}
		if addrs, err = g.Resolve(ctx, target.Host); err != nil {
			return nil, fmt.Errorf("resolve %s: %w", target.Host, err)
		}
	}
	pinned, prohibited := g.pin(addrs, target.Port)
	if len(pinned) == 0 {
		return nil, fmt.Errorf("%w: %s has only the addresses [%s]", errProhibited, target.Host, strings.Join(prohibited, ", "))
	}
	d := Dialer{Timeout: g.Timeout, guard: g.Guard}
	conn, err := d.dial(ctx, pinned)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// pin returns the addresses that the guard permits, and the class of each other.
func (g *GuardedDialer) pin(addrs []netip.Addr, port uint16) (pinned []netip.AddrPort, prohibited []string) {
	for _, addr := range addrs {
		to := netip.AddrPortFrom(addr.Unmap(), port)
		class := ClassInvalid
		if g.Guard != nil {
			class = g.Guard.Classify(to)
		}
		if class.Permits() {
			pinned = append(pinned, to)
		} else {
			prohibited = append(prohibited, string(class)+" "+addr.String())
		}
	}
	return pinned, prohibited
}
