package selftest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// dialTimeout bounds the connection to the listener.
const dialTimeout = 5 * time.Second

// Listener is the listener of this process that the probes are sent to.
type Listener struct {
	Address netip.AddrPort // as bound: an unspecified address is reached over loopback
	TLS     *tls.Config    // the listener's own, with GetCertificate; nil: no TLS
	// ProxyProtocolFrom are the networks from which the listener requires a PROXY
	// protocol header.
	ProxyProtocolFrom []netip.Prefix
}

// Dial connects to the listener as a step would, up to where a request can be written.
// from is the client's address on this connection. The caller closes the connection.
func (l Listener) Dial(ctx context.Context) (_ net.Conn, from netip.Addr, err error) {
	at := l.Address
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, from, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	from = local.Addr().Unmap()
	if slices.ContainsFunc(l.ProxyProtocolFrom, func(n netip.Prefix) bool { return n.Contains(from) }) {
		if err := writeProxyHeader(conn, from, local.Port(), at); err != nil {
			return nil, from, err
		}
	}
	if l.TLS == nil {
		return conn, from, nil
	}
	secured := tls.Client(conn, onlyCertificateOf(l.TLS))
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, from, fmt.Errorf("TLS with our own listener: %w", err)
	}
	return secured, from, nil
}

// writeProxyHeader writes a PROXY protocol header, version 1 (haproxy's
// proxy-protocol.txt, section 2.1), with the addresses of the connection.
func writeProxyHeader(conn net.Conn, from netip.Addr, port uint16, to netip.AddrPort) error {
	family := "TCP4"
	if from.Is6() {
		family = "TCP6"
	}
	_, err := fmt.Fprintf(conn, "PROXY %s %s %s %d %d\r\n", family, from, to.Addr().Unmap(), port, to.Port())
	return err
}

// onlyCertificateOf accepts only the certificate that the listener serves at the moment,
// whatever names it has: another process that has the port must not get the probe's
// token.
func onlyCertificateOf(listener *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection is stricter
		VerifyConnection: func(state tls.ConnectionState) error {
			own, err := listener.GetCertificate(&tls.ClientHelloInfo{})
			if err != nil {
				return err
			}
			if len(state.PeerCertificates) == 0 || len(own.Certificate) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("it shows another certificate than ours")
			}
			return nil
		},
	}
}
