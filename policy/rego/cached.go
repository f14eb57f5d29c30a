package rego

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/decisions"
	"github.com/sallyport/sallyport/policy/rego/functions"
	"github.com/sallyport/sallyport/policy/rego/paths"
)

// maxWorkerAge bounds the age of a cached decision that a worker has a part in. A worker
// that a policy has compromised could return a wrong result for another repository. The
// cache must not keep such a result for longer.
const maxWorkerAge = time.Minute

// Uncacheable is the cause for which the cache does not keep a decision.
type Uncacheable string

// The causes.
const (
	UncacheableTime       Uncacheable = "input_time"       // the rules read input.time
	UncacheableClock      Uncacheable = "clock"            // the evaluation read the clock, other than by a comparison with a known end
	UncacheableRepository Uncacheable = "repository_clock" // a repository's rules may read the clock
	UncacheableSize       Uncacheable = "size"             // the decision exceeds the bound of one entry
	UncacheableError      Uncacheable = "error"            // the evaluation failed
)

// UncacheableCauses lists the causes.
var UncacheableCauses = []Uncacheable{UncacheableTime, UncacheableClock, UncacheableRepository, UncacheableSize, UncacheableError}

// cacheCounts are the totals of an engine's caches.
type cacheCounts struct {
	decisions.Counts
	inputTime, clock, repositoryClock, failed atomic.Int64
}

// CacheStatus is the state of the decision cache.
type CacheStatus struct {
	Bytes                   int64 // of the present entries
	Entries                 int
	Hits, Misses, Evictions int64
	Uncacheable             map[Uncacheable]int64 // evaluations whose decision was not kept, by cause
}

// CacheStatus returns the state of the decision cache. The totals are those since the start
// of the process.
func (e *Engine) CacheStatus() CacheStatus {
	n := &e.counts
	s := CacheStatus{
		Hits: n.Hits.Load(), Misses: n.Misses.Load(), Evictions: n.Evictions.Load(),
		Uncacheable: map[Uncacheable]int64{
			UncacheableTime: n.inputTime.Load(), UncacheableClock: n.clock.Load(), UncacheableRepository: n.repositoryClock.Load(),
			UncacheableSize: n.TooLarge.Load(), UncacheableError: n.failed.Load(),
		},
	}
	if a := e.current.Load(); a != nil && a.cache != nil {
		s.Bytes, s.Entries = a.cache.entries.Used()
	}
	return s
}

// decisionCache decides by one set, and keeps the decisions. Safe for concurrent use.
//
// A decision is determined by the set, by the parts of the input that the rules can read,
// by its repository, by the names that the input lacks, by whether the target is an IP
// literal, and by the time. The key has all but the set and the time: the cache is of one
// set, and an entry has the time in which it holds. See ADR 0046.
type decisionCache struct {
	set     *Set
	entries *decisions.Cache
	keys    *lru[string, *keyParts] // by repository
	counts  *cacheCounts
}

// keyParts are the parts of the input that the keys of a repository have.
type keyParts struct {
	once  sync.Once
	parts *paths.Tree
	timed bool // input.time is one of the parts
	clock bool // the repository's rules may read the clock
}

// newDecisionCache returns nil if the cache is off or the set is nil.
func newDecisionCache(set *Set, limit int64, counts *cacheCounts) *decisionCache {
	if set == nil || limit <= 0 {
		return nil
	}
	return &decisionCache{set: set, entries: decisions.New(limit, &counts.Counts), keys: newLRU[string, *keyParts](maxPrincipals), counts: counts}
}

func (c *decisionCache) keyParts(repository string) *keyParts {
	k := c.keys.get(repository, func() *keyParts { return new(keyParts) })
	k.once.Do(func() {
		organization, own := c.set.readsFor(repository)
		k.parts, k.clock = new(paths.Tree), own.Clock
		k.parts.Merge(&organization.Input)
		k.parts.Merge(&own.Input)
		k.timed = k.parts.Has("time")
	})
	return k
}

// decide returns what [Set.Decide] returns. The duration of a cached decision is that of
// its evaluation.
func (c *decisionCache) decide(ctx context.Context, request *policy.Request) (policy.Decision, error) {
	start := time.Now()
	part, err := c.set.partOf(request)
	if err != nil {
		d := denied(nil)
		d.Revision = c.set.Revision()
		return d, err
	}
	k := c.keyParts(part.repository)
	if k.timed {
		c.counts.inputTime.Add(1)
		return c.set.decided(ctx, newEvalInput(request, part, nil), start)
	}
	in := newEvalInput(request, part, k.parts)
	key := c.keyOf(in)
	if d, ok := c.entries.Get(part.repository, key, in.time); ok {
		d.Input, d.Revision = in.json, c.set.Revision()
		return d, nil
	}
	d, err := c.set.decided(ctx, in, start)
	c.keep(k, in, key, &d, err)
	return d, err
}

// keep adds a decision to the cache, unless the evaluation failed, or the period in which
// the decision holds is not known.
func (c *decisionCache) keep(k *keyParts, in *evalInput, key []byte, d *policy.Decision, err error) {
	span := in.span
	if !c.set.loader.runs(cacheTime) {
		span = functions.Span{}
	}
	if in.worker && c.set.loader.runs(cacheAge) {
		span.Limit(functions.Span{From: in.time.Add(-maxWorkerAge), To: in.time.Add(maxWorkerAge)})
	}
	switch {
	case err != nil && c.set.loader.runs(cacheErrors):
		c.counts.failed.Add(1)
	case in.worker && k.clock && c.set.loader.runs(cacheClock):
		c.counts.repositoryClock.Add(1)
	case !span.Has(in.time):
		c.counts.clock.Add(1)
	default:
		e := decisions.Entry{Decision: *d, From: span.From, To: span.To}
		e.Decision.Input, e.Decision.Revision = nil, policy.Revision{}
		c.entries.Put(in.repository, key, e)
	}
}

// keyOf returns the key of a decision: all that the decision depends on except its set, its
// repository and its time. It may change in.key.
func (c *decisionCache) keyOf(in *evalInput) []byte {
	key := in.key
	if in.address && c.set.loader.runs(cacheAddress) {
		key = append(key, " address"...)
	}
	if len(in.missing) > 0 {
		key = append(append(key, ' '), strings.Join(in.missing, " ")...)
	}
	return key
}
