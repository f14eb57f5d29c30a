package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// resolve resolves the target and pins the addresses that the guard permits.
func (p *evaluation) resolve(ctx context.Context) *Refusal {
	p.upstream = p.gate.upstreamFor(p.target.Host)
	if refusal := p.rejectUpstreamTarget(ctx, nil); refusal != nil {
		return refusal
	}
	addrs := []netip.Addr{p.target.Addr}
	if !p.target.IsAddress() {
		if p.upstream != nil && p.upstream.ResolveUpstream {
			return nil
		}
		resolved := p.stage("resolve")
		found, err := p.gate.config.Resolver.Resolve(ctx, subject(p.principal), p.target.Host)
		resolved()
		if err != nil || len(found) == 0 {
			return p.denyUnresolved(ctx, err)
		}
		addrs = found
	}
	if refusal := p.rejectUpstreamTarget(ctx, addrs); refusal != nil {
		return refusal
	}
	for _, addr := range addrs {
		to := netip.AddrPortFrom(addr.Unmap(), p.target.Port)
		class := p.gate.config.Guard.Classify(to)
		if class.Permits() {
			p.pinned = append(p.pinned, to)
		} else {
			p.prohibited = append(p.prohibited, string(class)+" "+addr.String())
		}
	}
	if len(p.pinned) == 0 {
		return p.deny(ctx, refuse(policy.AddressProhibited,
			"the target has no address outside the private, local and reserved networks"))
	}
	return nil
}

func (p *evaluation) denyUnresolved(ctx context.Context, err error) *Refusal {
	p.gate.config.Log.WarnContext(ctx, "name not resolved", "host", p.target.Host, "error", err)
	if over, ok := errors.AsType[*fair.OverError](err); ok {
		return p.deny(ctx, overShare(over, "lookups of names"))
	}
	r := refuse(policy.NameUnresolved, "the target's name has no address")
	if e, ok := errors.AsType[interface {
		error
		ClientText() string
	}](err); ok {
		r.Detail = e.ClientText()
	}
	if isTimeout(err) {
		r.Status = 504
		r.Detail = "the target's name could not be looked up in time"
	}
	return p.deny(ctx, r)
}

// rejectUpstreamTarget refuses a target that is one of the upstream proxies: only this
// instance uses them, with its credential. Without addrs, only the name is compared.
// If the addresses of an upstream proxy cannot be resolved, every target is refused,
// because each could be that proxy.
func (p *evaluation) rejectUpstreamTarget(ctx context.Context, addrs []netip.Addr) *Refusal {
	for _, v := range p.gate.config.UpstreamProxies {
		if v.Port != p.target.Port {
			continue
		}
		own := v.Host == p.target.Host
		if !own && len(addrs) > 0 {
			found, err := v.lookup(ctx, subject(p.principal), p.gate.config.Resolver)
			if err != nil {
				p.gate.config.Log.ErrorContext(ctx, "upstream proxy not found", "upstream_proxy", v.String(), "error", err)
				return p.deny(ctx, refuse(policy.UpstreamUnavailable, "whether the target is an upstream proxy cannot be found out"))
			}
			own = slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(found, a.Unmap()) })
		}
		if own {
			p.prohibited = append(p.prohibited, string(ClassOwn)+" "+v.String())
			return p.deny(ctx, refuse(policy.AddressProhibited, "the target is a proxy that this one uses itself"))
		}
	}
	return nil
}

// upstreamFor returns the first upstream proxy for the host; nil: dial directly.
func (g *Gate) upstreamFor(host string) *UpstreamProxy {
	for _, v := range g.config.UpstreamProxies {
		if v.isFor(host) {
			return v
		}
	}
	return nil
}
