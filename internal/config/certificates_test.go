package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// signedBy makes a certificate; a nil signer signs itself.
func signedBy(t *testing.T, template *x509.Certificate, above *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if above == nil {
		above, signer = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	raw, err := x509.CreateCertificate(rand.Reader, template, above, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// TestChainWarnings: what clients refuse of a certificate and its chain is a warning
// with what to do.
func TestChainWarnings(t *testing.T) {
	now := time.Now()
	authority := func(name string, until time.Time) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-1000 * time.Hour), NotAfter: until,
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	server := func(change func(*x509.Certificate)) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "proxy"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
			DNSNames: []string{"proxy.acme.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if change != nil {
			change(c)
		}
		return c
	}
	root, rootKey := signedBy(t, authority("root", now.Add(9000*time.Hour)), nil, nil)
	middle, middleKey := signedBy(t, authority("middle", now.Add(9000*time.Hour)), root, rootKey)
	ended, endedKey := signedBy(t, authority("ended", now.Add(-time.Hour)), root, rootKey)
	stranger, _ := signedBy(t, authority("middle", now.Add(9000*time.Hour)), root, rootKey) // of the same name
	for _, c := range []struct {
		name  string
		leaf  *x509.Certificate
		by    *x509.Certificate
		key   *ecdsa.PrivateKey
		chain []*x509.Certificate
		want  string // "": nothing
	}{
		{"whole chain", server(nil), middle, middleKey, []*x509.Certificate{middle}, ""},
		{"whole chain with the root", server(nil), middle, middleKey, []*x509.Certificate{middle, root}, ""},
		{"signed by itself", server(nil), nil, nil, nil, ""},
		{"by its address", server(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(10, 0, 0, 1)} }), middle, middleKey, []*x509.Certificate{middle}, ""},
		{"leaf alone", server(nil), middle, middleKey, nil, "append the intermediate certificates"},
		{"without names", server(func(c *x509.Certificate) { c.DNSNames = nil }), middle, middleKey, []*x509.Certificate{middle}, "subjectAltName"},
		{"ended intermediate", server(nil), ended, endedKey, []*x509.Certificate{ended}, "certificate 2 of the file ended"},
		{"for clients", server(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), middle, middleKey, []*x509.Certificate{middle}, "not for servers"},
		{"wrong order", server(nil), middle, middleKey, []*x509.Certificate{root, middle}, "certificate 2 of the file did not sign"},
		{"an authority of the same name", server(nil), middle, middleKey, []*x509.Certificate{stranger}, "certificate 2 of the file did not sign"},
		{"an authority first", authority("sub", now.Add(1000*time.Hour)), middle, middleKey, []*x509.Certificate{middle}, "put the server's certificate first"},
		{"ended", server(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), middle, middleKey, []*x509.Certificate{middle}, "the certificate ended"},
		{"ends soon", server(func(c *x509.Certificate) { c.NotAfter = now.Add(time.Hour) }), middle, middleKey, []*x509.Certificate{middle}, "ends soon"},
		{"not yet valid", server(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), middle, middleKey, []*x509.Certificate{middle}, "not valid before"},
	} {
		leaf, _ := signedBy(t, c.leaf, c.by, c.key)
		var rest [][]byte
		for _, above := range c.chain {
			rest = append(rest, above.Raw)
		}
		var got []string
		for _, r := range chainWarnings(leaf, rest, now) {
			got = append(got, r.message+"; "+r.hint)
		}
		all := strings.Join(got, "\n")
		if c.want == "" && all != "" || !strings.Contains(all, c.want) || c.want != "" && len(got) != 1 && c.name != "an authority first" {
			t.Errorf("%s: %q, want %q", c.name, all, c.want)
		}
	}
}
