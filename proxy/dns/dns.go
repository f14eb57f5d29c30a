// Package dns resolves the names of targets with its own resolver. The configuration sets
// the servers, the timeouts and the cache times; the host's C library is not used.
//
// Names are absolute. Search domains and ndots are never applied, so that the resolver
// queries exactly the name that policy evaluated. A and AAAA are queried in parallel, over
// UDP with a fallback to TCP. A response whose question differs from the query is not used.
// Responses are cached by their TTL within bounds. Concurrent callers share one lookup of
// a name.
//
// There are two sources of servers:
//
//   - Configured servers: only these are queried.
//   - Otherwise the system's: /etc/hosts first, then the name servers of
//     /etc/resolv.conf. Build machines name their service containers in /etc/hosts, and
//     localhost is in it. The resolver reads both files again when they change, and then
//     empties the cache.
//
// The results include private and loopback addresses. The caller decides whether they may
// be dialed.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/fair"
)

// The defaults of [Config].
const (
	DefaultTimeout        = 5 * time.Second
	DefaultAttemptTimeout = 2 * time.Second
	DefaultMinTTL         = time.Second
	DefaultMaxTTL         = 5 * time.Minute
	DefaultNegativeTTL    = 30 * time.Second
	DefaultCacheSize      = 10_000
)

// DefaultLookups bounds the concurrent lookups, and the wait for a slot.
var DefaultLookups = fair.Config{
	Step:         fair.Limit{Slots: 32, Waiting: 200},
	Repository:   fair.Limit{Slots: 64, Waiting: 1000},
	Total:        fair.Limit{Slots: 256, Waiting: 4000},
	Wait:         5 * time.Second,
	WaitForSlots: true,
}

// Config configures a [Resolver]. A zero field means its default.
type Config struct {
	// Servers are recursive resolvers as address:port, queried in this order.
	// Empty: the system's (see the package comment).
	Servers []string
	// Timeout bounds one lookup, retries included.
	Timeout time.Duration
	// AttemptTimeout bounds one query to one server. Each query is sent to each server at
	// most twice.
	AttemptTimeout time.Duration
	// MinTTL and MaxTTL bound how long a response is cached, whatever its TTL is.
	MinTTL, MaxTTL time.Duration
	// NegativeTTL bounds how long "no such name" and "no address" are cached. The SOA
	// record can set a shorter time (RFC 2308 section 5).
	NegativeTTL time.Duration
	// CacheSize is the maximum number of cached names; the least recently used one is
	// evicted. A repository that has a quarter of them evicts only its own.
	CacheSize int
	// Lookups bounds the concurrent lookups of one step, of one repository and in total.
	// Further lookups wait, and then fail with [KindOverloaded]. The zero value means
	// [DefaultLookups].
	Lookups fair.Config
	// Logger receives a message if the system's files cannot be read again. nil: none.
	Logger *slog.Logger
}

// Resolver resolves names to addresses. It is safe for concurrent use. It does not need to
// be closed: its goroutines end with their lookups.
type Resolver struct {
	config   Config
	settings func() *settings // returns a new pointer after each change
	exchange func(ctx context.Context, server netip.AddrPort, q question) (answer, error)
	now      func() time.Time
	lookups  *fair.Limiter
	health   health

	mu      sync.Mutex
	seen    *settings // the settings that cache and flights belong to
	cache   *cache
	flights map[string]*flight // lookups in progress, by name
	queued  map[string]queued  // callers that wait for a slot, by name
}

// New returns a resolver. It does not query a server. Without configured servers it reads
// the system's files. It returns an error for an invalid field or file.
func New(config Config) (*Resolver, error) {
	if err := config.setDefaults(); err != nil {
		return nil, err
	}
	if len(config.Servers) == 0 {
		system, err := newSystem("/etc/resolv.conf", "/etc/hosts", config.Logger)
		if err != nil {
			return nil, err
		}
		return newResolver(config, system.current), nil
	}
	fixed := &settings{}
	for _, s := range config.Servers {
		server, err := parseServer(s)
		if err != nil {
			return nil, err
		}
		fixed.servers = append(fixed.servers, server)
	}
	return newResolver(config, func() *settings { return fixed }), nil
}

// newResolver returns a resolver with a complete configuration.
func newResolver(config Config, current func() *settings) *Resolver {
	return &Resolver{
		config:   config,
		settings: current,
		exchange: exchange,
		now:      time.Now,
		lookups:  fair.New(config.Lookups),
		cache:    newCache(config.CacheSize),
		flights:  map[string]*flight{},
		queued:   map[string]queued{},
	}
}

// setDefaults replaces zero fields with their defaults and rejects invalid values.
func (c *Config) setDefaults() error {
	for _, d := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"Timeout", &c.Timeout, DefaultTimeout},
		{"AttemptTimeout", &c.AttemptTimeout, DefaultAttemptTimeout},
		{"MinTTL", &c.MinTTL, DefaultMinTTL},
		{"MaxTTL", &c.MaxTTL, DefaultMaxTTL},
		{"NegativeTTL", &c.NegativeTTL, DefaultNegativeTTL},
	} {
		if *d.value < 0 {
			return fmt.Errorf("dns: %s is %v: it cannot be negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if c.MinTTL > c.MaxTTL {
		return fmt.Errorf("dns: MinTTL %v is longer than MaxTTL %v", c.MinTTL, c.MaxTTL)
	}
	if c.CacheSize < 0 {
		return errors.New("dns: CacheSize cannot be negative")
	}
	if err := c.Lookups.Validate(); err != nil {
		return fmt.Errorf("dns: Lookups: %w", err)
	}
	if c.CacheSize == 0 {
		c.CacheSize = DefaultCacheSize
	}
	if c.Lookups == (fair.Config{}) {
		c.Lookups = DefaultLookups
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// parseServer parses address:port. A host name is rejected: it would have to be resolved
// first.
func parseServer(s string) (netip.AddrPort, error) {
	server, err := netip.ParseAddrPort(s)
	if err != nil {
		if addr, err := netip.ParseAddr(s); err == nil {
			return netip.AddrPort{}, fmt.Errorf("dns: server %q has no port: write %q", s, netip.AddrPortFrom(addr, 53))
		}
		return netip.AddrPort{}, fmt.Errorf("dns: server %q is not address:port (IPv6 in brackets): %w", s, err)
	}
	if server.Port() == 0 || server.Addr().IsUnspecified() || server.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("dns: server %q cannot be queried: write the address and port of a recursive resolver", s)
	}
	return server, nil
}

// Resolve returns the addresses of a name: at least one, and at most 16 of each family.
// IPv4 addresses come first. There are no duplicates, no zones and no IPv4-mapped
// addresses. The host must be in the canonical form of [destination.ParseHost] and must not
// be an IP literal. The lookup counts towards the limits of the subject.
//
// Errors are of type *[Error]. When ctx ends, Resolve returns at once; other callers that
// wait for the same name are not affected.
func (r *Resolver) Resolve(ctx context.Context, subject fair.Subject, host string) ([]netip.Addr, error) {
	canonical, addr, err := destination.ParseHost(host)
	switch {
	case err != nil:
		return nil, &Error{Kind: KindInvalid, Host: host, Err: err}
	case canonical != host || addr.IsValid():
		return nil, &Error{Kind: KindInvalid, Host: host, Err: errors.New("not a canonical name")}
	}
	if addrs := r.settings().hosts[host]; len(addrs) > 0 {
		return slices.Clone(addrs), nil
	}
	found, err := r.share(ctx, subject, host)
	if err != nil {
		return nil, err
	}
	if found.kind != "" {
		return nil, &Error{Kind: found.kind, Host: host, Err: found.cause}
	}
	return slices.Clone(found.addrs), nil
}
