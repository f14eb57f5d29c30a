package bitbuckettest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// authority is a certificate authority of one server and the server's own
// certificate. Its dates are far apart, so that it is valid under the clock of
// a test too.
type authority struct {
	pem         []byte
	certificate *x509.Certificate
	leaf        tls.Certificate
}

var (
	certificatesBegin = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // before synctest's midnight of 2000
	certificatesEnd   = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
)

// newAuthority makes both, for loopback and for host, which may have a port or
// be empty.
func newAuthority(host string) (*authority, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bitbuckettest: authority's key: %w", err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bitbuckettest authority"},
		NotBefore: certificatesBegin, NotAfter: certificatesEnd,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("bitbuckettest: authority: %w", err)
	}
	a := &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})}
	if a.certificate, err = x509.ParseCertificate(rootDER); err != nil {
		return nil, fmt.Errorf("bitbuckettest: authority: %w", err)
	}

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("bitbuckettest: certificate's key: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bitbuckettest"},
		NotBefore: certificatesBegin, NotAfter: certificatesEnd,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = append(leaf.IPAddresses, ip)
	} else if host != "" {
		leaf.DNSNames = append(leaf.DNSNames, host)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, a.certificate, &leafKey.PublicKey, rootKey)
	if err != nil {
		return nil, fmt.Errorf("bitbuckettest: certificate: %w", err)
	}
	a.leaf = tls.Certificate{Certificate: [][]byte{leafDER, rootDER}, PrivateKey: leafKey}
	return a, nil
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.certificate)
	return p
}
