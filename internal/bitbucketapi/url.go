package bitbucketapi

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ParseURL reads the URL of an issuer or API: https, or http on a loopback address. It
// refuses a URL that contains a credential, a query, a fragment or a final slash, so
// that a URL has one spelling.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", raw) // url's error would repeat it
	}
	switch {
	case u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not an absolute URL", raw)
	case u.User != nil:
		return nil, errors.New("the URL holds a user or password")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		return nil, fmt.Errorf("%q has a query or fragment", raw)
	case strings.HasSuffix(raw, "/"):
		return nil, fmt.Errorf("%q ends in a slash, and Bitbucket's do not", raw)
	}
	return u, checkScheme(u, raw)
}

func checkScheme(u *url.URL, raw string) error {
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if isLoopback(u.Hostname()) {
			return nil
		}
		return fmt.Errorf("%q is http, which is accepted on a loopback address only", raw)
	}
	return fmt.Errorf("%q is not an https URL", raw)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// SameHost reports whether two URLs have the same scheme and host, and the first
// contains no credential.
func SameHost(address, other string) bool {
	a, err := url.Parse(address)
	if err != nil {
		return false
	}
	b, err := url.Parse(other)
	return err == nil && a.Scheme == b.Scheme && a.Host == b.Host && a.User == nil
}
