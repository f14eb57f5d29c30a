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
	"github.com/sallyport/sallyport/policy"
)

// Via is another HTTP proxy, through which the way out to some hosts leads. It
// is asked for a tunnel (CONNECT) to every target, those of absolute-form
// requests too: a forwarded request would leave it to that proxy which address
// is meant. It must not be copied once in use.
type Via struct {
	Host string      // a canonical name, or an IP literal
	Port uint16      //
	TLS  *tls.Config // for an https:// proxy, with its ServerName; nil: nothing but TCP

	Hosts  []destination.Pattern // the hosts that it is for; none: every host
	Except []destination.Pattern // and of these the ones that it is not for

	// ResolveUpstream sends names, where otherwise this instance looks them up,
	// judges the addresses, and asks for one of those. The guard then sees nothing
	// but IP literals: which address is dialled is that proxy's to say.
	ResolveUpstream bool

	// Credential returns "user:password". It is asked for every connection, so that
	// the two can be rotated. nil: none.
	Credential func() (string, error)

	known atomic.Pointer[[]netip.Addr] // its addresses as they were last found
}

// String is the proxy's URL, without a credential.
func (v *Via) String() string {
	scheme := "http://"
	if v.TLS != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(v.Host, strconv.Itoa(int(v.Port)))
}

// isFor reports whether the way to a canonical host leads through it.
func (v *Via) isFor(host string) bool {
	matches := func(p destination.Pattern) bool { return p.Matches(host) }
	return (len(v.Hosts) == 0 || slices.ContainsFunc(v.Hosts, matches)) && !slices.ContainsFunc(v.Except, matches)
}

// viaFor is the first that is for the host, nil for the direct way.
func (g *Gate) viaFor(host string) *Via {
	for _, v := range g.config.Via {
		if v.isFor(host) {
			return v
		}
	}
	return nil
}

// find returns the proxy's own addresses, and those that it had last where its
// name cannot be looked up.
func (v *Via) find(ctx context.Context, subject fair.Subject, resolver Resolver) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(v.Host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	found, err := resolver.Resolve(ctx, subject, v.Host)
	if err == nil && len(found) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		if known := v.known.Load(); known != nil {
			return *known, nil
		}
		return nil, fmt.Errorf("look up the upstream proxy %s: %w", v.Host, err)
	}
	for i, addr := range found {
		found[i] = addr.Unmap()
	}
	v.known.Store(&found)
	return found, nil
}

// reserved refuses a target that is one of the proxies that the way out leads
// through: they are this instance's to use, with its credential, and nobody's to
// reach. Before addrs are known the name alone is looked at. An upstream whose
// addresses are not known could be any.
func (p *passage) reserved(ctx context.Context, addrs []netip.Addr) *Refusal {
	for _, v := range p.gate.config.Via {
		if v.Port != p.target.Port {
			continue
		}
		own := v.Host == p.target.Host
		if !own && len(addrs) > 0 {
			found, err := v.find(ctx, subject(p.principal), p.gate.config.Resolver)
			if err != nil {
				p.gate.config.Log.ErrorContext(ctx, "upstream proxy not found", "upstream_proxy", v.String(), "error", err)
				return p.deny(ctx, refuse(policy.UpstreamUnavailable, "whether the target is an upstream proxy cannot be found out"))
			}
			own = slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(found, a.Unmap()) })
		}
		if own {
			p.prohibit = append(p.prohibit, string(ClassOwn)+" "+v.String())
			return p.deny(ctx, refuse(policy.AddressProhibited, "the target is a proxy that this one uses itself"))
		}
	}
	return nil
}

// Via is the URL of the proxy that the way out leads through; empty where it is
// direct.
func (a *Admission) Via() string {
	if a.via == nil {
		return ""
	}
	return a.via.String()
}

// Dialled is the pinned address that the latest [Admission.Dial] has reached, or
// had another proxy reach; invalid where there is none.
func (a *Admission) Dialled() netip.AddrPort {
	if to := a.dialled.Load(); to != nil {
		return *to
	}
	return netip.AddrPort{}
}
