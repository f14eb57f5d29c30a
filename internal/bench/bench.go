// Package bench measures forward proxies from outside, side by side: new tunnels, open
// tunnels, requests of plain HTTP, and what each costs in processor time and memory. The
// targets take turns within each round, so that a ratio compares measurements of the same
// minute. For tests only.
package bench

import (
	"crypto/tls"
	"time"
)

// Target is a way from a client to the [Upstream]: a proxy, or none.
type Target struct {
	Name    string
	Version string
	Proxy   string      // host:port; empty: clients connect to the upstream directly
	TLS     *tls.Config // of a proxy that expects TLS; nil: plain TCP
	// Credentials are values of Proxy-Authorization. Each client uses one of them; none: no
	// client sends the field.
	Credentials []string
	// Processes returns the process ids of the proxy. Their descendants count too. nil: the
	// processor time is not measured.
	Processes func() []int
	// Database returns the process ids of the database, which is measured apart; nil: none.
	Database func() []int
	// Loads names the loads that the target is measured with; empty: all of them.
	Loads []string
}

// Options configure [Run].
type Options struct {
	Upstream *Upstream
	Targets  []*Target
	Baseline string // the name of the target that ratios compare with
	Loads    []*Load
	Rounds   int           // measurements of each load and target, after one that only warms up
	Time     time.Duration // of one measurement
	Settle   time.Duration // that a measurement waits at most until the processes are idle
	Bytes    int64         // that one tunnel of a bulk load transfers
	Tunnels  int           // of a load with idle tunnels; 0: what the load states
	// Progress is called with a line after each load; nil: not.
	Progress func(line string)
}
