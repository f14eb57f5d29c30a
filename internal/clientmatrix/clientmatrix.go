// Package clientmatrix describes real build clients, and how each of them reaches a
// target through Sallyport: the table of clients, the upstream that serves them, the
// measured outcomes and the page that shows these. The end-to-end tests run the
// clients (e2e.TestClients), and docs/clients.md is written from the outcomes.
package clientmatrix

import "slices"

// Way is how a client of a step reaches Sallyport.
type Way string

// The ways. Step is through the forwarder that `sallyport-step start` starts; the
// others put the token into the proxy URL.
const (
	Step  Way = "sallyport-step"
	TLS   Way = "https://"
	Plain Way = "http://"
)

// Ways are all ways, in the order of the page.
var Ways = []Way{Step, TLS, Plain}

// Zone is what a host name of the upstream ends with. The test's policy has one rule
// for each.
type Zone string

// The zones of the test's policy.
const (
	Allowed Zone = "allowed.example"  // a rule that allows TLS
	Raw     Zone = "raw.example"      // a rule with protocol: "any"
	ECH     Zone = "ech.example"      // a rule with ech: true
	Denied  Zone = "denied.example"   // no rule
	Report  Zone = "reported.example" // no rule, for a repository in report mode
)

// Client is one client of the matrix. The shell texts run in bash in a clean
// environment, in a directory of their own ($WORK), with $URL (scheme, host and port
// of the target), $HOST, $PORT, $CA (the authority of the targets and of the proxy's
// TLS listener, as a PEM file) and $BITBUCKET_STEP_OIDC_TOKEN. $PROXY is the proxy URL
// of the way, $PROXY_HOST and $PROXY_PORT are its parts.
type Client struct {
	// Name of the client, as a pipeline author knows it.
	Name string
	// Short clients run in `make test`, where they are installed.
	Short bool
	// Slow clients need seconds for one transfer.
	Slow bool
	// Needs are the programs that have to be installed, and Source is who has them.
	Needs  []string
	Source string
	// Version prints the client's version.
	Version string
	// Files are written into $WORK.
	Files map[string]string
	// Trust lets the client accept the authority $CA, for targets and for the proxy.
	Trust string
	// Settings configure the proxy where the variables of the way are not enough.
	Settings map[Way]string
	// Start are options of sallyport-step start; empty: --unset-token.
	Start string
	// Transfer gets $URL and prints or writes what came. It fails if nothing came.
	Transfer string
	// AtOnce is how many equal requests the client sends at once; 0: one.
	AtOnce int
	// Session is a command that makes two transfers in one process, with the pause of
	// a session between them: it opens $EVENTS and writes a line with "first", then
	// opens $CONTINUE and reads a line. Empty: the transfer runs twice.
	Session string
	// Want is what the output of a transfer has in it; empty: Greeting.
	Want string
	// Scheme of $URL; empty: https.
	Scheme string
	// Zone of the host; empty: Allowed.
	Zone Zone
	// Port of the target; empty: the upstream's port of the scheme.
	Port Port
	// Ways that the client is run in; empty: all of them.
	Ways []Way
	// Given are the variables and the files below $WORK and $HOME, with * as in a
	// shell, that hold the token because the settings put it there, by way.
	Given map[Way][]string
	// How is how the client gets the proxy and the authority, for the page.
	How map[Way]string
	// Mentions is what the output of an exception has in it through sallyport-step: the
	// cause, for the step's author.
	Mentions string
	// Except are failures that are known and documented, by way. Through
	// sallyport-step every other failure and every leak fails the test.
	Except map[Way]string
}

// Port is the target's port where it is not the upstream's.
type Port string

// Ports of servers that do not speak HTTP.
const (
	SSH        Port = "ssh"
	PostgreSQL Port = "postgresql"
)

// Greeting is in every response of the upstream that does not belong to a package.
const Greeting = "greetings from the upstream"

// RunsIn reports whether the client is run in the way.
func (c *Client) RunsIn(way Way) bool { return len(c.Ways) == 0 || slices.Contains(c.Ways, way) }
