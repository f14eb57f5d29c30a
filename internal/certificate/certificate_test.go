package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair returns a certificate with its key, both PEM.
func pair(t *testing.T, serial int64) (certificate, key []byte, der []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"egress.acme.example"}, NotAfter: time.Now().Add(time.Hour)}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private); err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), der
}

// TestRenewedCertificateIsServed: after both files were replaced, the next check serves
// the new pair. While only one file was replaced, the old pair is served.
func TestRenewedCertificateIsServed(t *testing.T) {
	dir := t.TempDir()
	certificateFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	written := time.Now().Add(-time.Hour)
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		written = written.Add(time.Minute)
		if err := os.Chtimes(name, written, written); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(certificateFile, keyFile, nil); err == nil {
		t.Fatal("files that do not exist were loaded")
	}
	certificate, key, old := pair(t, 1)
	write(certificateFile, certificate)
	write(keyFile, key)
	c, err := Load(certificateFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	served := func() []byte {
		now = now.Add(checkInterval)
		return c.get(now).Certificate[0]
	}
	if !bytes.Equal(served(), old) {
		t.Error("another certificate than the loaded one is served")
	}
	certificate, key, renewed := pair(t, 2)
	write(certificateFile, certificate)
	if !bytes.Equal(served(), old) {
		t.Error("a certificate without its key is served")
	}
	write(keyFile, key)
	if got := c.get(now).Certificate[0]; !bytes.Equal(got, old) {
		t.Error("the files were checked twice in the interval")
	}
	if !bytes.Equal(served(), renewed) {
		t.Error("the renewed certificate is not served")
	}
	if got, err := c.TLSConfig().GetCertificate(nil); err != nil || !bytes.Equal(got.Certificate[0], renewed) {
		t.Errorf("the listener serves %v, %v", got, err)
	}
}
