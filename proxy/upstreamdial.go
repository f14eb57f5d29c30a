package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// maxUpstreamAttempts is how many of a target's addresses an upstream proxy is asked for.
const maxUpstreamAttempts = 3

// upstreamStatus is an upstream proxy's refusal. Its words are not kept.
type upstreamStatus int

func (s upstreamStatus) Error() string {
	return fmt.Sprintf("the upstream proxy answered %d", int(s))
}

// targetFailed reports whether it speaks of the target and not of itself.
func (s upstreamStatus) targetFailed() bool { return 502 <= s && s <= 504 }

// dialThroughUpstream has the upstream proxy open a tunnel to one of the pinned addresses, or
// to the name where that is its to look up.
func (a *Admission) dialThroughUpstream(ctx context.Context) (Stream, error) {
	d, v := &a.gate.config.Dialer, a.upstream
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, 10*time.Second))
	defer cancel()
	at, err := v.lookup(ctx, subject(a.Principal), a.gate.config.Resolver)
	if err != nil {
		return nil, err
	}
	if v.ResolveUpstream {
		return d.connectUpstream(ctx, v, at, a.Target.String())
	}
	order := interleave(a.Addresses)
	order = order[:min(len(order), maxUpstreamAttempts)]
	for i, to := range order {
		// An address that does not answer leaves time for the others.
		deadline, _ := ctx.Deadline()
		one, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(order)-i))
		var conn Stream
		conn, err = d.connectUpstream(one, v, at, to.String())
		cancel()
		if err == nil {
			a.dialled.Store(&to)
			return conn, nil
		}
		if status, answered := errors.AsType[upstreamStatus](err); answered && status < 500 {
			break // it would say the same of another address
		}
	}
	return nil, err
}

// connectUpstream connects to the upstream proxy, one of whose addresses is at, and
// asks it for a tunnel to an authority.
func (d *Dialer) connectUpstream(ctx context.Context, v *UpstreamProxy, at []netip.Addr, authority string) (_ Stream, err error) {
	conn, err := d.dialUpstream(ctx, v, at)
	if err != nil {
		return nil, fmt.Errorf("connect to the upstream proxy: %w", err)
	}
	// What follows ends with ctx, whatever it waits for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	var stream Stream = conn
	if v.TLS != nil {
		secured := tls.Client(conn, v.TLS)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS with the upstream proxy: %w", err)
		}
		stream = secured
	}
	head, err := v.connectHead(authority)
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write(head); err != nil {
		return nil, fmt.Errorf("ask the upstream proxy: %w", err)
	}
	status, err := readConnectAnswer(stream)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the upstream proxy's answer: %w", err)
	case status < 200 || status > 299: // RFC 9110 section 9.3.6
		return nil, upstreamStatus(status)
	}
	return stream, nil
}

// dialUpstream connects to one of the proxy's own addresses. It is configured, and
// so may be private; this instance itself it is not.
func (d *Dialer) dialUpstream(ctx context.Context, v *UpstreamProxy, at []netip.Addr) (*net.TCPConn, error) {
	to := make([]netip.AddrPort, len(at))
	for i, addr := range at {
		to[i] = netip.AddrPortFrom(addr.Unmap(), v.Port)
	}
	return d.connect(ctx, to, func(address string) error {
		dialled, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q does not parse", errProhibited, address)
		}
		dialled = netip.AddrPortFrom(dialled.Addr().Unmap(), dialled.Port())
		if d.guard.isOwn(dialled) || dialled.Addr().IsUnspecified() || dialled.Addr().IsMulticast() {
			return fmt.Errorf("%w: the upstream proxy's address %s is this instance's own, or nobody's", errProhibited, dialled)
		}
		return nil
	})
}

// connectHead is the request for a tunnel.
func (v *UpstreamProxy) connectHead(authority string) ([]byte, error) {
	b := make([]byte, 0, 512)
	b = append(b, "CONNECT "...)
	b = append(b, authority...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, authority...)
	if v.Credential != nil {
		text, err := v.Credential()
		if err != nil {
			return nil, fmt.Errorf("read the credential for the upstream proxy: %w", err)
		}
		if !isUserPassword(text) {
			// RFC 7617 section 2. The text itself is not for an error.
			return nil, errors.New("the credential for the upstream proxy is not user:password on one line")
		}
		b = append(b, "\r\nProxy-Authorization: Basic "...)
		b = base64.StdEncoding.AppendEncode(b, []byte(text))
	}
	return append(b, "\r\n\r\n"...), nil
}

func isUserPassword(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return strings.IndexByte(s, ':') > 0
}

// notReached is what the client is told of a dial that failed: whether it was the
// target or the upstream proxy, and never in another's words.
func (a *Admission) notReached(err error) *Refusal {
	if over, ok := errors.AsType[*fair.OverError](err); ok {
		return overShare(over, "connections to targets being opened")
	}
	if a.upstream == nil {
		if isTimeout(err) {
			return refuse(policy.TargetTimeout, "the target did not answer in time")
		}
		return refuse(policy.TargetUnreachable, "the target could not be reached")
	}
	status, answered := errors.AsType[upstreamStatus](err)
	switch {
	case answered && status == 504:
		return refuse(policy.TargetTimeout, "the target did not answer the upstream proxy in time")
	case answered && status.targetFailed():
		return refuse(policy.TargetUnreachable, "the upstream proxy could not reach the target")
	case answered:
		return refuse(policy.UpstreamUnavailable, "the upstream proxy refused the target")
	case isTimeout(err) && !errors.Is(err, syscall.ECONNREFUSED):
		return refuse(policy.UpstreamTimeout, "the upstream proxy did not answer in time")
	}
	return refuse(policy.UpstreamUnavailable, "the upstream proxy could not be reached, or did not answer as a proxy does")
}
