package config

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// soon is how long before its end a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

// chainWarnings is what clients will not accept of a listener's certificate and of those
// that follow it in its file: dates, names, purpose, and the way to an authority (RFC
// 5280, RFC 6125 section 6.4.4, RFC 8446 section 4.4.2).
func chainWarnings(leaf *x509.Certificate, rest [][]byte, now time.Time) []problem {
	warnings := dateWarnings("the certificate", leaf, now)
	add := func(hint, format string, args ...any) { warnings = append(warnings, *problemf(hint, format, args...)) }
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		add("issue one whose subjectAltName has the name that steps use", "the certificate has no names (subjectAltName): clients do not read its common name")
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		add("issue one with the extended key usage serverAuth", "the certificate is not for servers")
	}
	if leaf.IsCA && !selfSigned(leaf) {
		add("put the server's certificate first", "the first certificate of the file is an authority's")
	}
	signed := leaf
	for at, raw := range rest {
		above, err := x509.ParseCertificate(raw)
		if err != nil {
			add("remove it", "certificate %d of the file cannot be parsed: %v", at+2, err)
			return warnings
		}
		if !bytes.Equal(signed.RawIssuer, above.RawSubject) || signed.CheckSignatureFrom(above) != nil {
			add("order the file: the server's certificate, then the one that signed it, and so on", "certificate %d of the file did not sign the one before it", at+2)
			return warnings
		}
		warnings = append(warnings, dateWarnings(fmt.Sprintf("certificate %d of the file", at+2), above, now)...)
		signed = above
	}
	if len(rest) == 0 && !selfSigned(leaf) {
		add("append the intermediate certificates; where the authority signs servers' certificates itself, nothing is missing",
			"the file has no other certificate than the server's: clients that do not know who signed it (%s) will refuse it", quote(leaf.Issuer.String()))
	}
	return warnings
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func dateWarnings(what string, c *x509.Certificate, now time.Time) []problem {
	switch until := c.NotAfter.UTC().Format(time.RFC3339); {
	case now.After(c.NotAfter):
		return []problem{*problemf("renew it", "%s ended on %s: clients will refuse it", what, until)}
	case now.Add(soon).After(c.NotAfter):
		return []problem{*problemf("renew it", "%s ends soon, on %s", what, until)}
	case now.Before(c.NotBefore):
		return []problem{*problemf("check the machine's clock", "%s is not valid before %s", what, c.NotBefore.UTC().Format(time.RFC3339))}
	}
	return nil
}
