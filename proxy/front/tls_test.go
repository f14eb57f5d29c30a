package front

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certificate makes a certificate for the listener, and what a client needs to
// trust it.
func certificate(t *testing.T) (client, server *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"proxy.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	own := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{RootCAs: roots, ServerName: "proxy.test"},
		&tls.Config{NextProtos: []string{"h2"}, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own, nil }}
}

func TestTLSListener(t *testing.T) {
	target, _ := upstream(t, echo)
	s := start(t, func(s *stand, c *Config, lc *ListenerConfig) {
		s.tls, lc.TLS = certificate(t)
		c.HandshakeTimeout = 200 * time.Millisecond
	})
	s.tls.NextProtos = []string{"h2", "http/1.1"}
	c := s.dial(t).send("CONNECT up.test:" + port(target) + " HTTP/1.1\r\n" + good + "\r\nearly ")
	if resp, _ := c.answer("CONNECT"); resp.StatusCode != 200 {
		t.Fatalf("got %v", resp)
	}
	if got := c.Stream.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("ALPN is %q", got)
	}
	c.send("late")
	_ = c.CloseWrite()
	if got := c.rest(); got != "early late" {
		t.Errorf("got %q", got)
	}
	if resp, _ := s.dial(t).send("CONNECT denied.test:443 HTTP/1.1\r\n" + good + "\r\n").answer("CONNECT"); resp.StatusCode != 403 {
		t.Errorf("got %v", resp)
	}
	// Plain HTTP and silence on a TLS listener both come to an end.
	s.tls = nil
	if got := s.dial(t).send("GET http://up.test/ HTTP/1.1\r\n\r\n").rest(); strings.Contains(got, "200 OK") {
		t.Errorf("plain HTTP got %q", got)
	}
	if got := s.dial(t).rest(); got != "" {
		t.Errorf("silence got %q", got)
	}
}
