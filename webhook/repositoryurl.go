package webhook

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/internal/destination"
)

// defaultPorts are the ports of the schemes by which Git fetches.
var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22", "git+ssh": "22"}

// NormalizeURL returns the form of a repository's address by which addresses are compared:
// host, port unless it is its scheme's own, and path, in lower case, without scheme, user,
// ".git" and slashes at the end. The forms https://host/path, ssh://git@host:port/path and
// git@host:path (gitrepository-layout(7), git-clone(1)) of one repository have the same.
// It returns an error for an address of another form, and for one with a query, a
// fragment, an escape, or a path that climbs.
func NormalizeURL(address string) (string, error) {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		host, path, ok := strings.Cut(address, ":") // the scp form
		if !ok || strings.ContainsAny(host, "/[]") {
			return "", errors.New("neither a URL nor of the form user@host:path")
		}
		if _, bare, ok := strings.Cut(host, "@"); ok {
			host = bare
		}
		return joinURL(host, "", strings.TrimPrefix(path, "/"))
	}
	scheme = strings.ToLower(scheme)
	port, known := defaultPorts[scheme]
	if !known {
		return "", errors.New("the scheme is none of https, http, ssh")
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(rest, "#") || u.RawPath != "" || strings.Contains(rest, "%") {
		return "", errors.New("the URL cannot be parsed, or has a query, a fragment or an escape")
	}
	if u.Port() != port {
		port = u.Port()
	} else {
		port = ""
	}
	return joinURL(u.Hostname(), port, strings.TrimPrefix(u.Path, "/"))
}

func joinURL(host, port, path string) (string, error) {
	name, addr, err := destination.ParseHost(strings.ToLower(host))
	if err != nil {
		return "", errors.New("the host is not a host's name or address")
	}
	path = strings.TrimSuffix(strings.TrimRight(strings.ToLower(path), "/"), ".git")
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, "abcdefghijklmnopqrstuvwxyz0123456789-._~+") != "" {
			return "", errors.New("the path has an empty segment, a dot segment or a character that no repository's address has")
		}
	}
	if port != "" {
		name = net.JoinHostPort(name, port)
	} else if addr.Is6() {
		name = "[" + name + "]"
	}
	return name + "/" + path, nil
}
