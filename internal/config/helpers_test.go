package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

type testCertificate struct{ begins, ends time.Time }

// newCertificate returns a certificate and its key as PEM, good for a year unless asked otherwise.
func newCertificate(t testing.TB, c testCertificate) (certificate, key string) {
	t.Helper()
	if c.begins.IsZero() {
		c.begins = time.Now().Add(-time.Hour)
	}
	if c.ends.IsZero() {
		c.ends = time.Now().AddDate(1, 0, 0)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy.example"}, DNSNames: []string{"proxy.example"},
		NotBefore: c.begins, NotAfter: c.ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

const goodIdentity = `identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "{922E118C-f34f-4226-a897-0e0afbec553d}"
      issuer: https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: ["https://egress.acme.example"]
`

const minimal = `listeners: [{address: "127.0.0.1:3128"}]
` + goodIdentity + `policy: {directory: .}
audit: {embedded: true}
`

// newDirectory is a new directory and the name of a configuration in it.
func newDirectory(t testing.TB) (directory, file string) {
	t.Helper()
	directory = t.TempDir()
	return directory, filepath.Join(directory, "sallyport.yaml")
}
