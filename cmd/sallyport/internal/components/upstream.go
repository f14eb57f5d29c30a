package components

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/proxy"
)

// UpstreamProxies are the configured upstream proxies, as the gate accepts them. Only the
// configuration adds one: the proxy variables of the environment are not read.
func UpstreamProxies(configured []config.UpstreamProxy) ([]*proxy.UpstreamProxy, error) {
	var all []*proxy.UpstreamProxy
	for _, c := range configured {
		port, err := strconv.ParseUint(c.Proxy.Port(), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("egress.upstream_proxies: the port of %s: %w", c.Proxy, err)
		}
		v := &proxy.UpstreamProxy{
			Host: c.Proxy.Hostname(), Port: uint16(port), Hosts: c.Hosts, Except: c.Except,
			ResolveUpstream: c.DNS == config.DNSUpstream,
		}
		if !c.Credential.IsZero() {
			v.Credential = c.Credential.Read
		}
		if c.Proxy.Scheme == "https" {
			v.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: v.Host, NextProtos: []string{"http/1.1"}}
			if c.CAFile != "" {
				if v.TLS.RootCAs, err = authorities(c.CAFile); err != nil {
					return nil, fmt.Errorf("egress.upstream_proxies: %w", err)
				}
			}
		}
		all = append(all, v)
	}
	return all, nil
}

// authorities reads the certificates that others are checked with.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}
