package proxy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
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
		dialed, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q does not parse", errProhibited, address)
		}
		dialed = netip.AddrPortFrom(dialed.Addr().Unmap(), dialed.Port())
		if d.guard.isOwn(dialed) || dialed.Addr().IsUnspecified() || dialed.Addr().IsMulticast() {
			return fmt.Errorf("%w: the upstream proxy's address %s is this instance's own, unspecified or multicast", errProhibited, dialed)
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
