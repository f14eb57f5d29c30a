package bitbuckettest

import (
	"context"
	"crypto/x509"
	"net"
)

func (n *network) prepare(scheme, host string, useTLS bool) error {
	n.scheme, n.host = scheme, host
	if !useTLS {
		return nil
	}
	var err error
	n.authority, err = newAuthority(host)
	return err
}

func (n *network) baseURL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == "" {
		return ""
	}
	return n.scheme + "://" + n.host
}

// dial connects to the server when the address is its own, whatever name
// Options.BaseURL gave it.
func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	memory, real := n.memory, n.address
	own := address == n.host || address == n.host+":80" || address == n.host+":443"
	n.mu.Unlock()
	if own && memory != nil {
		return memory.dial(ctx)
	}
	if own && real != "" {
		address = real
	}
	return new(net.Dialer).DialContext(ctx, kind, address)
}

// CAPEM returns the certificate of the authority that signed the server's own,
// in PEM, and nil without TLS.
func (s *Server) CAPEM() []byte {
	if s.network.authority == nil {
		return nil
	}
	return s.network.authority.pem
}

// CertPool returns a pool with that certificate alone, and nil without TLS.
func (s *Server) CertPool() *x509.CertPool {
	if s.network.authority == nil {
		return nil
	}
	return s.network.authority.pool()
}
