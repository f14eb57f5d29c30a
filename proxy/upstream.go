package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/fair"
)

// UpstreamProxy is another HTTP proxy, through which Sallyport reaches some hosts.
// Sallyport opens a tunnel (CONNECT) through the proxy to every target, also for
// absolute-form requests: if the request were forwarded, that proxy would choose the
// address. An UpstreamProxy must not be copied once in use.
type UpstreamProxy struct {
	Host string      // a canonical name, or an IP literal
	Port uint16      //
	TLS  *tls.Config // for an https:// proxy, with its ServerName; nil: nothing but TCP

	Hosts  []destination.Pattern // the hosts that it is for; none: every host
	Except []destination.Pattern // and of these the ones that it is not for

	// ResolveUpstream sends names to the proxy; otherwise this instance resolves them,
	// checks the addresses, and requests one of those. The guard then sees nothing but IP
	// literals: that proxy chooses which address is dialed.
	ResolveUpstream bool

	// Credential returns "user:password". It is asked for every connection, so that
	// the two can be rotated. nil: none.
	Credential func() (string, error)

	lastAddresses atomic.Pointer[[]netip.Addr] // its addresses as they were last found
}

// String is the proxy's URL, without a credential.
func (v *UpstreamProxy) String() string {
	scheme := "http://"
	if v.TLS != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(v.Host, strconv.Itoa(int(v.Port)))
}

// isFor reports whether a canonical host is reached through the proxy.
func (v *UpstreamProxy) isFor(host string) bool {
	matches := func(p destination.Pattern) bool { return p.Matches(host) }
	return (len(v.Hosts) == 0 || slices.ContainsFunc(v.Hosts, matches)) && !slices.ContainsFunc(v.Except, matches)
}

// lookup returns the addresses of the proxy. If its name cannot be resolved, lookup
// returns the addresses that were resolved last.
func (v *UpstreamProxy) lookup(ctx context.Context, subject fair.Subject, resolver Resolver) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(v.Host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	found, err := resolver.Resolve(ctx, subject, v.Host)
	if err == nil && len(found) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		if known := v.lastAddresses.Load(); known != nil {
			return *known, nil
		}
		return nil, fmt.Errorf("look up the upstream proxy %s: %w", v.Host, err)
	}
	for i, addr := range found {
		found[i] = addr.Unmap()
	}
	v.lastAddresses.Store(&found)
	return found, nil
}
