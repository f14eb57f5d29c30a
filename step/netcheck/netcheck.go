// Package netcheck tests whether a step can reach the network around the proxy. It
// contacts the addresses of its configuration only, and has no addresses of its own.
package netcheck

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// The tests, as stepapi.NetworkResult names them.
const (
	TestTCP      = "direct_tcp" // a TCP connection
	TestUDP      = "direct_udp" // a QUIC packet that every server answers (RFC 9000 section 6.1)
	TestDNSUDP   = "dns_udp"    // a DNS query over UDP
	TestDNSTCP   = "dns_tcp"    // a TCP connection to a resolver: data can leave through it
	TestIPv6     = "ipv6"       // a TCP connection to an IPv6 address
	TestMetadata = "metadata"   // a TCP connection to the metadata service of a cloud
)

// Bounds of a check.
const (
	MaxTests       = 32               // addresses of one check; a DNS address counts twice
	DefaultTimeout = 3 * time.Second  // of one test
	MaxTimeout     = 30 * time.Second // of one test
)

// Config names the addresses to test. Each is an IP address with an optional port, as
// [ParseAddress] accepts it.
type Config struct {
	TCP      []string // port 443 if none is given
	UDP      []string // port 443 if none is given
	DNS      []string // port 53 if none is given; tested over UDP and TCP; also a resolver on loopback, which can pass queries on
	IPv6     []string // port 443 if none is given
	Metadata []string // port 80 if none is given

	// Timeout bounds one test; all tests run at the same time. 0 is DefaultTimeout.
	Timeout time.Duration

	// Send records the results with the server. If it is nil, the results are only
	// printed.
	Send func(context.Context, *stepapi.NetworkCheck) error

	// JSON prints one JSON object instead of lines.
	JSON bool

	loopback bool // permits loopback addresses: for the tests of this package
}

// test is one test to run.
type test struct {
	name    string
	address netip.AddrPort
}

// tests returns the tests of a configuration, or an error that names the invalid
// address and its flag.
func (c *Config) tests() ([]test, error) {
	var all []test
	for _, group := range []struct {
		flag      string
		addresses []string
		port      uint16
		names     []string
	}{
		{"--tcp", c.TCP, 443, []string{TestTCP}},
		{"--udp", c.UDP, 443, []string{TestUDP}},
		{"--dns", c.DNS, 53, []string{TestDNSUDP, TestDNSTCP}},
		{"--ipv6", c.IPv6, 443, []string{TestIPv6}},
		{"--metadata", c.Metadata, 80, []string{TestMetadata}},
	} {
		for _, text := range group.addresses {
			address, err := ParseAddress(text, group.port, c.loopback || group.flag == "--dns")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", group.flag, err)
			}
			if group.flag == "--ipv6" && !address.Addr().Is6() {
				return nil, fmt.Errorf("--ipv6: %s is not an IPv6 address: use --tcp", address.Addr())
			}
			for _, name := range group.names {
				all = append(all, test{name, address})
			}
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("no address to test: give at least one of --tcp, --udp, --dns, --ipv6, --metadata")
	case len(all) > MaxTests:
		return nil, fmt.Errorf("%d tests: give addresses for at most %d", len(all), MaxTests)
	case c.Timeout < 0 || c.Timeout > MaxTimeout:
		return nil, fmt.Errorf("--timeout: %v is out of range: give at most %v", c.Timeout, MaxTimeout)
	}
	return all, nil
}

// Validate returns an error that names the first invalid setting.
func (c *Config) Validate() error {
	if _, err := c.tests(); err != nil {
		return fmt.Errorf("check-network: %w", err)
	}
	return nil
}

// Check runs the tests of a configuration at the same time and returns one result for
// each, in the order of the configuration. It takes at most a little longer than the
// timeout of one test. It does not use the proxy variables of the environment. An error
// means that the configuration is invalid and nothing was tested.
func Check(ctx context.Context, c Config) (*stepapi.NetworkCheck, error) {
	all, err := c.tests()
	if err != nil {
		return nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	results := make([]stepapi.NetworkResult, len(all))
	var wg sync.WaitGroup
	for i, t := range all {
		wg.Go(func() { results[i] = t.run(ctx, timeout) })
	}
	wg.Wait()
	return &stepapi.NetworkCheck{Results: results}, nil
}

// run runs one test until ctx ends.
func (t test) run(ctx context.Context, timeout time.Duration) stepapi.NetworkResult {
	probe, network := probeTCP, "tcp"
	switch t.name {
	case TestUDP:
		probe, network = probeQUIC, "udp"
	case TestDNSUDP:
		probe, network = probeDNSOverUDP, "udp"
	}
	if t.address.Addr().Is4() {
		network += "4"
	} else {
		network += "6"
	}
	answer, err := probe(ctx, network, t.address)
	outcome, detail := judge(answer, err, timeout)
	return stepapi.NetworkResult{Test: t.name, Address: t.address.String(), Network: network, Outcome: outcome, Detail: detail}
}
