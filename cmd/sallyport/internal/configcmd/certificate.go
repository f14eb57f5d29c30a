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
		if l.TLS == nil {
			continue
		}
		name := fmt.Sprintf("certificate of listeners[%d]", i)
		pair, err := tls.LoadX509KeyPair(l.TLS.CertificateFile, l.TLS.KeyFile)
		if err != nil {
			r.add(name, "", cli.Invalid(err))
			continue
		}
		r.add(name, describeCertificate(pair.Leaf, pair.Certificate[1:]), nil)
	}
}

func describeCertificate(leaf *x509.Certificate, rest [][]byte) string {
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
		trust = "not trusted by this machine's authorities: steps need the file of its authority"
	}
	return fmt.Sprintf("for %s until %s, signed by %q; %s", strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.RFC3339), leaf.Issuer.CommonName, trust)
}
