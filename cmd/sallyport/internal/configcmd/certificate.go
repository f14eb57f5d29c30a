package configcmd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
)

// checkCertificates describes the certificate of each listener. What clients would
// refuse of it is a warning of the configuration (package config).
func checkCertificates(r *checkReport, cfg *config.Config) {
	for i, l := range cfg.Listeners {
		checkCertificate(r, fmt.Sprintf("certificate of listeners[%d]", i), l.TLS, "steps need the file of its authority")
	}
	if w := cfg.Webhooks; w != nil {
		checkCertificate(r, "certificate of webhooks.listener", w.Listener.TLS, "Bitbucket Cloud accepts none that a public authority has not signed")
	}
}

// checkCertificate describes the certificate of one listener. untrusted is the consequence if
// this machine's authorities do not vouch for it.
func checkCertificate(r *checkReport, name string, t *config.TLS, untrusted string) {
	if t == nil {
		return
	}
	pair, err := tls.LoadX509KeyPair(t.CertificateFile, t.KeyFile)
	if err != nil {
		r.add(name, "", cli.Invalid(err))
		return
	}
	r.add(name, describeCertificate(pair.Leaf, pair.Certificate[1:], untrusted), nil)
}

func describeCertificate(leaf *x509.Certificate, rest [][]byte, untrusted string) string {
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	above := x509.NewCertPool()
	for _, raw := range rest {
		if c, err := x509.ParseCertificate(raw); err == nil {
			above.AddCert(c)
		}
	}
	trust := "trusted by this machine's authorities"
	if _, err := leaf.Verify(x509.VerifyOptions{Intermediates: above}); err != nil {
		trust = "not trusted by this machine's authorities: " + untrusted
	}
	return fmt.Sprintf("for %s until %s, signed by %q; %s", strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.RFC3339), leaf.Issuer.CommonName, trust)
}
