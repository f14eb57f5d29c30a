package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/step/query"
)

// certificateWarning is how long before its end a certificate is reported.
const certificateWarning = 7 * 24 * time.Hour

// checkProxies checks the name, the connection and the certificate of each proxy, and
// returns the proxies that can be used.
func (x *examination) checkProxies(ctx context.Context) []query.Proxy {
	if len(x.Proxies) == 0 {
		x.fail("proxy", "give --proxy https://HOST:PORT, or run sallyport-step start first", "no proxy is configured")
		return nil
	}
	var usable []query.Proxy
	for _, text := range x.Proxies {
		p, err := query.ParseProxy(text, x.Plaintext)
		if err != nil {
			x.fail("proxy", "give the URL of a TLS listener without user information", "%v", err)
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		if x.checkProxy(ctx, p) {
			usable = append(usable, p)
		}
		cancel()
	}
	return usable
}

func (x *examination) checkProxy(ctx context.Context, p query.Proxy) bool {
	if _, err := netip.ParseAddr(p.Host); err != nil {
		addresses, err := net.DefaultResolver.LookupHost(ctx, p.Host)
		if err != nil {
			x.fail("proxy name", "check the spelling and the step's DNS, or add the name to /etc/hosts", "%s does not resolve: %v", p.Host, err)
			return false
		}
		x.ok("proxy name", "%s resolves to %s", p.Host, strings.Join(addresses, ", "))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		x.fail("proxy connection", connectRemedy(err), "%s: %v", p.Address, err)
		return false
	}
	defer conn.Close()
	x.ok("proxy connection", "%s accepts connections", p.Address)
	if !p.TLS {
		x.warn("proxy TLS", "use the TLS listener, https://HOST:PORT", "the connection to %s is not encrypted: every reader of the network can read the token", p.Address)
		return true
	}
	return x.checkTLS(ctx, conn, p)
}

func connectRemedy(err error) string {
	var timed net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "check the port: no listener has it, or Sallyport is not running"
	case errors.As(err, &timed) && timed.Timeout():
		return "ask for a firewall rule from the step to the proxy: packets are dropped on the path"
	}
	return "ask for a route and a firewall rule from the step to the proxy"
}

func (x *examination) checkTLS(ctx context.Context, conn net.Conn, p query.Proxy) bool {
	roots, err := query.Roots(x.CAFile)
	if err != nil {
		x.fail("proxy TLS", "give the file of the authority in --ca-file", "%v", err)
		return false
	}
	client := tls.Client(conn, &tls.Config{ServerName: p.Host, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := client.HandshakeContext(ctx); err != nil {
		detail, remedy := explainTLS(err, p)
		x.fail("proxy TLS", remedy, "%s: %s", p.Address, detail)
		return false
	}
	leaf := client.ConnectionState().PeerCertificates[0]
	end := leaf.NotAfter.UTC().Format(time.DateOnly)
	if leaf.NotAfter.Sub(x.Now()) < certificateWarning {
		x.warn("proxy TLS", "ask the operator of the proxy to renew the certificate", "the certificate for %s ends on %s", p.Host, end)
		return true
	}
	x.ok("proxy TLS", "the certificate is valid for %s until %s", p.Host, end)
	return true
}

// explainTLS describes a failed handshake and its remedy.
func explainTLS(err error, p query.Proxy) (detail, remedy string) {
	var record tls.RecordHeaderError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var timed net.Error
	switch {
	case errors.As(err, &record):
		return "the port does not speak TLS", "use the port of a TLS listener; for a plain listener, http:// with --plaintext"
	case errors.As(err, &name):
		return "the certificate is for " + certificateNames(name.Certificate) + ", not for " + p.Host, "use a name of the certificate in --proxy"
	case errors.As(err, &unknown):
		return "the certificate is signed by an authority that the step does not trust", "give the authority's certificate in --ca-file, or install it in the image (package ca-certificates)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate was valid from %s to %s", invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly)),
			"ask the operator of the proxy to renew the certificate, and check the step's clock"
	case errors.As(err, &timed) && timed.Timeout():
		return "no answer to the TLS handshake", "check that the port is a TLS listener of Sallyport"
	}
	return err.Error(), "check that the port is a TLS listener of Sallyport"
}

// certificateNames lists the first names of a certificate.
func certificateNames(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	const shown = 5
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > shown:
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more names", len(names)-shown)
	}
	return strings.Join(names, ", ")
}
