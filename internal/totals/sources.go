package totals

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// SourcesInterval is the interval of the events of [Sources]. A crash loses the counts of
// one interval at most.
const SourcesInterval = time.Minute

// The bounds of [Sources], whatever the number of source addresses.
const (
	maxSources = 1024 // counted apart in one interval; the others of a receiver together
	maxListed  = 32   // named in one event: those with the most requests
)

// otherSources is the name of the sources that are not listed apart.
const otherSources = "other networks"

// SourcesConfig is what [Sources] are made of.
type SourcesConfig struct {
	// Record makes an event durable, or returns an error; the event may be recorded even
	// so, once the database is available again.
	Record   func(context.Context, *audit.Event) error
	Interval time.Duration    // 0: [SourcesInterval]
	Log      *slog.Logger     // nil: none
	Now      func() time.Time // nil: time.Now
}

// Sources counts requests without an event of their own by receiver, source network and
// reason, and records the counts of each interval in one event. Anybody can cause such
// requests, so that neither their number nor the number of their addresses adds to the
// number of events. Its methods are safe for concurrent use.
type Sources struct {
	config SourcesConfig

	mu     sync.Mutex
	from   time.Time
	counts map[sourceKey]map[string]int64 // by reason
}

// sourceKey is a receiver and a network: a /24 of IPv4, a /48 of IPv6. An invalid network
// stands for all that are not counted apart.
type sourceKey struct {
	receiver string
	network  netip.Prefix
}

func (k sourceKey) String() string {
	if !k.network.IsValid() {
		return k.receiver + " from " + otherSources
	}
	return k.receiver + " from " + k.network.String()
}

// NewSources begins to count.
func NewSources(c SourcesConfig) *Sources {
	c.Interval = cmp.Or(c.Interval, SourcesInterval)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Sources{config: c, from: c.Now(), counts: map[sourceKey]map[string]int64{}}
}

// Add counts a request. receiver and reason are of a closed vocabulary. It never waits.
func (s *Sources) Add(receiver string, client netip.Addr, reason string) {
	key := sourceKey{receiver, sourceNetwork(client)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[key] == nil {
		if len(s.counts) >= maxSources {
			key.network = netip.Prefix{}
		}
		if s.counts[key] == nil {
			s.counts[key] = map[string]int64{}
		}
	}
	s.counts[key][reason]++
}

func sourceNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	network, _ := a.Prefix(bits) // an invalid address has an invalid network
	return network
}

// Run records the counts every interval until ctx ends. [Sources.Flush] records the rest.
func (s *Sources) Run(ctx context.Context) {
	tick := time.NewTicker(s.config.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Flush records the counts since the latest event, unless they are 0. If that fails, the
// next event has the same beginning and includes these counts.
func (s *Sources) Flush(ctx context.Context) {
	now := s.config.Now()
	s.mu.Lock()
	counts, from := make(map[sourceKey]map[string]int64, len(s.counts)), s.from
	for key, reasons := range s.counts {
		counts[key] = maps.Clone(reasons)
	}
	s.mu.Unlock()
	if len(counts) == 0 {
		s.mu.Lock()
		if len(s.counts) == 0 {
			s.from = now
		}
		s.mu.Unlock()
		return
	}
	if err := s.config.Record(ctx, sourcesEvent(from, now, counts)); err != nil {
		s.config.Log.Warn("counts of unverified webhook requests not recorded yet", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from = now
	for key, reasons := range counts {
		for reason, n := range reasons {
			if s.counts[key][reason] -= n; s.counts[key][reason] == 0 {
				delete(s.counts[key], reason)
			}
		}
		if len(s.counts[key]) == 0 {
			delete(s.counts, key)
		}
	}
}

// sourcesEvent is the event of one interval: the totals by reason, whose sum is the total,
// and the sources with the most requests.
func sourcesEvent(from, to time.Time, counts map[sourceKey]map[string]int64) *audit.Event {
	e := &audit.Event{Time: to, Kind: audit.KindUnrecordedTotals}
	add := func(name, value string) {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value})
	}
	reasons, total := map[string]int64{}, int64(0)
	for _, of := range counts {
		for reason, n := range of {
			reasons[reason] += n
			total += n
		}
	}
	add("from", from.UTC().Format(time.RFC3339Nano))
	add("to", to.UTC().Format(time.RFC3339Nano))
	add("total", strconv.FormatInt(total, 10))
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		add(reason, strconv.FormatInt(reasons[reason], 10))
	}
	counts = listed(counts)
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b sourceKey) int {
		return cmp.Or(cmp.Compare(a.receiver, b.receiver), a.network.Compare(b.network))
	})
	for _, key := range keys {
		var parts []string
		for _, reason := range slices.Sorted(maps.Keys(counts[key])) {
			parts = append(parts, reason+"="+strconv.FormatInt(counts[key][reason], 10))
		}
		add(key.String(), strings.Join(parts, " "))
	}
	e.Message = strconv.FormatInt(total, 10) + " webhook requests without an event of their own"
	return e
}

// listed keeps the sources with the most requests apart, and adds up the others of each
// receiver.
func listed(counts map[sourceKey]map[string]int64) map[sourceKey]map[string]int64 {
	sum := func(reasons map[string]int64) (n int64) {
		for _, one := range reasons {
			n += one
		}
		return n
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b sourceKey) int {
		return cmp.Or(cmp.Compare(sum(counts[b]), sum(counts[a])), cmp.Compare(a.receiver, b.receiver), a.network.Compare(b.network))
	})
	out := map[sourceKey]map[string]int64{}
	for i, key := range keys {
		reasons := counts[key]
		if i >= maxListed {
			key.network = netip.Prefix{}
		}
		if out[key] == nil {
			out[key] = map[string]int64{}
		}
		for reason, n := range reasons {
			out[key][reason] += n
		}
	}
	return out
}
