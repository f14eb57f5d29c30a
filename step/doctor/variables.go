package doctor

import (
	"context"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// pairs are the variables that tools read in one of two spellings.
var pairs = [][2]string{{"HTTPS_PROXY", "https_proxy"}, {"HTTP_PROXY", "http_proxy"}, {"NO_PROXY", "no_proxy"}}

// checkForwarder checks that the step's forwarder accepts connections.
func (x *examination) checkForwarder(ctx context.Context) {
	const start = `run eval "$(sallyport-step start --proxy https://HOST:PORT)" in the script`
	if !x.Forwarder.IsValid() {
		x.warn("forwarder", start, "no forwarder is running: tools need the token themselves, and many cannot use the proxy")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", x.Forwarder.String())
	if err != nil {
		x.fail("forwarder", "run sallyport-step stop, and start it again", "%s: %v", x.Forwarder, err)
		return
	}
	defer conn.Close()
	if text := ended(conn); strings.Contains(text, "peer_not_admitted") {
		x.fail("forwarder", "run doctor as the user that ran start, or add --allow-uid to start", "%s does not admit this user", x.Forwarder)
		return
	}
	x.ok("forwarder", "%s accepts connections", x.Forwarder)
}

// ended ends its direction of a connection to the forwarder, and returns the beginning of
// what the forwarder sends until it ends its own. A connection that is closed at once
// would be reported as one of an unknown user.
func ended(conn net.Conn) string {
	tcp, ok := conn.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil || tcp.SetDeadline(time.Now().Add(timeout)) != nil {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(tcp, 4<<10))
	return string(text)
}

// checkVariables checks the variables that tools read. It adds one check for each fault,
// or one that there is none.
func (x *examination) checkVariables() {
	before := len(x.checks)
	for _, pair := range pairs {
		x.checkPair(pair[0], pair[1])
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		if value := x.environment[name]; value != "" {
			x.checkProxyURL(name, value)
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		x.checkNoProxy(name)
	}
	x.checkExpected()
	x.checkCopies()
	if x.environment["REQUEST_METHOD"] != "" {
		x.warn("variables", "unset REQUEST_METHOD", "REQUEST_METHOD is set: Go, Python and curl then ignore HTTP_PROXY, as in a CGI program")
	}
	if len(x.checks) == before {
		x.ok("variables", "the proxy variables are set correctly")
	}
}

// checkPair checks that both spellings of a variable are set and equal.
func (x *examination) checkPair(upper, lower string) {
	u, l := x.environment[upper], x.environment[lower]
	switch {
	case u == "" && l == "" && upper == "HTTPS_PROXY":
		x.fail("variables", "run sallyport-step start, or export the variables as in docs/pipelines.md", "%s and %s are not set: tools connect directly", upper, lower)
	case u == "" && l == "" && upper == "HTTP_PROXY" && x.environment["HTTPS_PROXY"] != "":
		x.warn("variables", "export both, unless the step needs Bitbucket's proxy for http:// URLs", "%s and %s are not set: http:// requests connect directly", upper, lower)
	case u == "" && l != "":
		x.fail("variables", "export "+upper+`="$`+lower+`"`, "%s is not set, and %s is: some tools read upper case only", upper, lower)
	case u != "" && l == "":
		x.fail("variables", "export "+lower+`="$`+upper+`"`, "%s is not set, and %s is: curl, wget and apt read lower case", lower, upper)
	case u != l:
		x.fail("variables", "set both to the same value", "%s and %s differ: tools use different proxies", upper, lower)
	}
}

// checkProxyURL checks the value of one variable. No output has its user information.
func (x *examination) checkProxyURL(name, value string) {
	const start = "run sallyport-step start, which sets the variables without a credential"
	u, err := url.Parse(value)
	switch {
	case !strings.Contains(value, "://"):
		x.fail("variables", "begin the value of "+name+" with http://", "%s has no scheme: some tools ignore it", name)
		return
	case err != nil || u.Hostname() == "":
		x.fail("variables", start, "%s is not a URL", name)
		return
	case u.User != nil:
		x.warn("variables", start, "%s contains a credential: tools print it, and apt sends it to the target", name)
	}
	if !x.matchesForwarder(u) {
		x.checkProxyOf(name, u)
	}
}

// checkProxyOf checks a proxy that is not the running forwarder.
func (x *examination) checkProxyOf(name string, u *url.URL) {
	loopback := isLoopback(u.Hostname())
	socks := strings.EqualFold(name, "ALL_PROXY") && strings.HasPrefix(u.Scheme, "socks5")
	switch {
	case u.Scheme == "https" && loopback:
		x.fail("variables", "use http:// for the forwarder on loopback", "%s has the wrong scheme: https:// for an address inside the step", name)
	case u.Scheme != "http" && u.Scheme != "https" && !socks:
		x.fail("variables", "use http://, or the value that sallyport-step start prints", "%s has the scheme %q, which tools do not support", name, u.Scheme)
	case x.Forwarder.IsValid():
		x.fail("variables", `run eval "$(sallyport-step start ...)" again`, "%s names %s, and the forwarder is %s", name, u.Host, x.Forwarder)
	case u.Scheme == "http" && !loopback && !x.Plaintext:
		x.fail("variables", "use https:// and the TLS listener", "%s has the wrong scheme: http:// sends the token to %s without encryption", name, u.Host)
	}
}

func (x *examination) matchesForwarder(u *url.URL) bool {
	address, err := netip.ParseAddrPort(u.Host)
	return err == nil && x.Forwarder.IsValid() && address == x.Forwarder && (u.Scheme == "http" || strings.HasPrefix(u.Scheme, "socks5"))
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// ownHosts have to be in NO_PROXY: Bitbucket's proxy and service containers are there.
var ownHosts = []string{"localhost", "127.0.0.1", "host.docker.internal"}

// checkNoProxy checks one spelling of NO_PROXY: what it exempts from the proxy, and forms
// that only some tools support.
func (x *examination) checkNoProxy(name string) {
	value, isSet := x.environment[name]
	entries := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	if (x.environment["HTTPS_PROXY"] != "" || isSet) && name == "NO_PROXY" {
		for _, host := range ownHosts {
			if !slices.Contains(entries, host) && !slices.Contains(entries, "*") {
				x.warn("variables", "add "+host+" to NO_PROXY and no_proxy", "%s does not contain %s: calls to services and to Bitbucket's proxy fail", name, host)
			}
		}
	}
	for _, entry := range entries {
		x.checkExemption(name, entry)
	}
}

// checkExemption checks one entry of NO_PROXY.
func (x *examination) checkExemption(name, entry string) {
	suffix := strings.TrimPrefix(strings.TrimPrefix(entry, "*"), ".")
	network, err := netip.ParsePrefix(entry)
	switch {
	case suffix == "", err == nil && network.Bits() == 0:
		x.fail("variables", "remove "+entry+" from "+name, "%s contains %q: every request bypasses the proxy", name, entry)
	case err == nil:
		x.warn("variables", "list host names in "+name, "%s contains the network %s, which git, wget and Java ignore", name, entry)
	case isTooWide(suffix):
		x.fail("variables", "list the hosts instead of "+entry+" in "+name, "%s contains %q: requests to all names below it bypass the proxy", name, entry)
	case strings.HasPrefix(entry, "*"):
		x.warn("variables", "write ."+suffix+" instead of "+entry, "%s contains %q, which curl and Go do not support", name, entry)
	}
	for _, target := range x.Targets {
		if host, _, err := net.SplitHostPort(target); err == nil && exempts(suffix, host) {
			x.fail("variables", "remove "+entry+" from "+name, "%s contains %q: requests to %s bypass the proxy", name, entry, host)
		}
	}
}

// publicSuffixes are suffixes that strangers register names below, as they occur in
// NO_PROXY by mistake.
var publicSuffixes = []string{
	"com", "net", "org", "io", "dev", "app", "cloud", "co", "ai", "sh", "de", "eu", "uk", "co.uk", "us", "info", "biz", "xyz",
	"amazonaws.com", "cloudfront.net", "azurewebsites.net", "windows.net", "googleapis.com", "github.io", "herokuapp.com", "workers.dev", "run.app",
}

// isTooWide reports whether names below a suffix belong to anybody.
func isTooWide(suffix string) bool { return slices.Contains(publicSuffixes, strings.ToLower(suffix)) }

// exempts reports whether an entry of NO_PROXY without its leading dot covers a host.
func exempts(suffix, host string) bool {
	suffix, host = strings.ToLower(suffix), strings.ToLower(strings.TrimSuffix(host, "."))
	return suffix != "" && (host == suffix || strings.HasSuffix(host, "."+suffix))
}

// checkExpected compares the environment with what `start` sets.
func (x *examination) checkExpected() {
	const again = `run eval "$(sallyport-step start ...)" again in this shell`
	for _, v := range x.Expected {
		if slices.ContainsFunc(pairs, func(p [2]string) bool { return p[0] == v.Name || p[1] == v.Name }) {
			continue // compared by checkPair and checkProxyURL
		}
		switch value, isSet := x.environment[v.Name]; {
		case !isSet:
			x.fail("variables", again, "%s is not set", v.Name)
		case value != v.Value:
			x.fail("variables", again, "%s has another value than sallyport-step start set", v.Name)
		}
	}
}

// checkCopies finds the token in variables other than its own.
func (x *examination) checkCopies() {
	if x.secret.IsZero() {
		return
	}
	var names []string
	for name, value := range x.environment {
		if name != x.TokenName && name != "BITBUCKET_STEP_OIDC_TOKEN" && strings.Contains(value, x.secret.Reveal()) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		x.warn("variables", "unset "+name+", and let sallyport-step add the token", "%s contains the token", name)
	}
}
