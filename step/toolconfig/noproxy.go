package toolconfig

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ownHosts are reached without the forwarder: loopback, and the name under which a step
// and its containers reach each other. Bitbucket's own proxy listens there, at port
// 29418. "::1" is missing, because httpx before 0.25 fails on an IPv6 address.
var ownHosts = []string{"localhost", "127.0.0.1", "host.docker.internal"}

// noProxy returns the hosts for NO_PROXY: those that the environment has, in their order,
// then ours, then the Docker daemon's, without duplicates.
func (s *Settings) noProxy() []string {
	var hosts []string
	add := func(more ...string) {
		for _, host := range more {
			if host != "" && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		add(strings.FieldsFunc(s.Getenv(name), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })...)
	}
	add(ownHosts...)
	add(s.NoProxy...)
	// The docker client connects to a tcp:// daemon through HTTP_PROXY.
	if daemon, err := url.Parse(s.Getenv("DOCKER_HOST")); err == nil && daemon.Scheme == "tcp" && isPlainHost(daemon.Hostname()) {
		add(daemon.Hostname())
	}
	if host := s.Getenv("BITBUCKET_DOCKER_HOST_INTERNAL"); isPlainHost(host) {
		add(host)
	}
	return hosts
}

// BypassesAll returns a value of NO_PROXY in the environment with which tools ignore
// every proxy, or "".
func BypassesAll(s Settings) string {
	for _, host := range s.noProxy() {
		if host == "*" || host == "." || host == "0.0.0.0/0" || host == "::/0" {
			return host
		}
	}
	return ""
}

// isPlainHost reports whether a text is a host name, or an IPv4 address: nothing that has
// a meaning in a file of a tool.
func isPlainHost(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for _, c := range []byte(host) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// javaHosts converts NO_PROXY for http.nonProxyHosts, which separates patterns by "|" and
// allows "*" at the start and the end of one. A suffix ".svc", and a name, which clients
// take as a suffix too, become two patterns. Networks have no equivalent.
func (s *Settings) javaHosts() string {
	var patterns []string
	for _, host := range s.noProxy() {
		suffix := strings.TrimPrefix(strings.TrimPrefix(host, "*"), ".")
		switch _, err := netip.ParseAddr(host); {
		case !isPlainHost(suffix):
			continue
		case err == nil:
			patterns = append(patterns, host)
		case suffix != host:
			patterns = append(patterns, "*."+suffix)
		case slices.Contains(ownHosts, host):
			patterns = append(patterns, host)
		default:
			patterns = append(patterns, host, "*."+host)
		}
	}
	return strings.Join(patterns, "|")
}

// directHosts are the plain names and addresses of NO_PROXY, for tools without patterns.
func (s *Settings) directHosts() []string {
	return slices.DeleteFunc(s.noProxy(), func(host string) bool { return !isPlainHost(host) || strings.HasPrefix(host, ".") })
}
