// Package dns finds the addresses of targets, with a resolver of our own: what
// answers, how long it is waited for and how long it is believed is
// configuration and not whatever the host's C library does.
//
// Names are absolute. Search domains and ndots are never applied, so that the
// name that was decided is the name that is asked for. A and AAAA are asked in
// parallel, over UDP with a fall-back to TCP; each answer is compared with its
// question before anything in it counts. Answers are cached by their TTL within
// bounds, and concurrent callers share one lookup of a name.
//
// Two sources of settings:
//
//   - Configured servers: those are asked and nothing else.
//   - None configured: the system's. The name servers of /etc/resolv.conf are
//     asked, after /etc/hosts has been checked (build machines name their
//     service containers there, and localhost is in it). Both files are read
//     again when they change, and the cache is emptied then.
//
// The addresses are those of the response, private and loopback ones included. The caller
// decides whether they may be dialed.
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

// DefaultLookups is how many lookups may be under way, and how long one more waits.
var DefaultLookups = fair.Config{
	Step:         fair.Limit{Slots: 32, Waiting: 200},
	Repository:   fair.Limit{Slots: 64, Waiting: 1000},
	Total:        fair.Limit{Slots: 256, Waiting: 4000},
	Wait:         5 * time.Second,
	WaitForSlots: true,
}

// Config is how to resolve. A zero field means its default.
type Config struct {
	// Servers are recursive resolvers as address:port, asked in this order.
	// Empty: the system's, see the package comment.
	Servers []string
	// Timeout bounds one lookup, retries included.
	Timeout time.Duration
	// AttemptTimeout bounds one question to one server. Every server gets two.
	AttemptTimeout time.Duration
	// MinTTL and MaxTTL bound how long a response is cached, whatever its TTL is.
	MinTTL, MaxTTL time.Duration
	// NegativeTTL bounds how long "no such name" and "no address" are kept, within the
	// SOA's bound (RFC 2308 section 5).
	NegativeTTL time.Duration
	// CacheSize is how many names are kept; the least recently used one goes. A
	// repository that has a quarter of them displaces none but its own.
	CacheSize int
	// Lookups is how many lookups may be under way, of one step, of one repository
	// and of all. What is over it waits, and then fails with [KindOverloaded].
	// The zero Config is [DefaultLookups].
	Lookups fair.Config
	// Logger gets a message when the system's files cannot be read again. May be nil.
	Logger *slog.Logger
}

// Resolver finds addresses. It is safe for concurrent use and needs no closing:
// what it runs ends with the lookups that it serves.
type Resolver struct {
	config   Config
	settings func() *settings // changed settings are another pointer
	exchange func(ctx context.Context, server netip.AddrPort, q question) (answer, error)
	now      func() time.Time
	lookups  *fair.Limiter
	health   health

	mu      sync.Mutex
	seen    *settings // the settings that cache and flights belong to
	cache   *cache
	flights map[string]*flight // that are under way, by name
	queued  map[string]queued  // callers that wait for a slot, by name
}

// New makes a resolver. It asks no server; without configured servers it reads
// the system's files.
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

// newResolver puts a resolver together from a complete configuration.
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

// setDefaults fills in what is zero and refuses what makes no sense.
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

// parseServer reads address:port. A name will not do: who would resolve it?
func parseServer(s string) (netip.AddrPort, error) {
	server, err := netip.ParseAddrPort(s)
	if err != nil {
		if addr, err := netip.ParseAddr(s); err == nil {
			return netip.AddrPort{}, fmt.Errorf("dns: server %q has no port: write %q", s, netip.AddrPortFrom(addr, 53))
		}
		return netip.AddrPort{}, fmt.Errorf("dns: server %q is not address:port (IPv6 in brackets): %w", s, err)
	}
	if server.Port() == 0 || server.Addr().IsUnspecified() || server.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("dns: server %q cannot be asked: write the address and port of a recursive resolver", s)
	}
	return server, nil
}

// Resolve returns the addresses of a name: at least one, at most 16 of each
// family, IPv4 before IPv6, each once, without zones and never IPv4-mapped. The
// host must be canonical as by [destination.ParseHost] and not an IP literal. The
// lookup counts as the subject's.
//
// Errors are of type *[Error]. When ctx ends, Resolve returns at once; others
// who wait for the same name are not affected.
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
