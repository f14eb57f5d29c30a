// Package decisions keeps the decisions of one revision for reuse, within a bound in bytes
// that the repositories share.
package decisions

import (
	"container/heap"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Entry is a decision, and the time in which it holds: from From, and before To. A zero
// From or To sets no bound. The decision is read-only.
type Entry struct {
	Decision policy.Decision
	From, To time.Time
}

// holds reports whether the decision holds at a time.
func (e *Entry) holds(at time.Time) bool {
	return (e.From.IsZero() || !at.Before(e.From)) && (e.To.IsZero() || at.Before(e.To))
}

// Counts are totals of caches. Safe for concurrent use.
type Counts struct {
	Hits, Misses, Evictions, TooLarge atomic.Int64
}

// maxEntry bounds the bytes of one entry. A larger decision is evaluated each time.
const maxEntry = 32 << 10

// shareOfRepository divides the bytes of a cache: a repository has at most the quotient.
const shareOfRepository = 4

// sameBytes is the difference in bytes below which two repositories count as equal.
const sameBytes = 4 << 10

// Sizes of the parts of a cache in memory, rounded up.
const (
	shareBytes = 1024 // a repository without entries
	entryBytes = 640  // an entry without its texts, with its place in a map
)

// Cache is bounded in bytes. If it is full, the repository that has the most bytes loses
// its least recently used entry. A repository that has less than an equal part of the
// cache therefore never loses an entry to another one. Repositories whose parts differ by
// less than sameBytes count as equal: the one that added no entry for longest loses one.
//
// An entry that needs an eviction is kept only at the second request for its key: requests
// that never recur drop no other entry, except for the room of a new repository. Safe for
// concurrent use.
type Cache struct {
	limit  int64
	counts *Counts

	mu      sync.Mutex
	used    int64
	added   uint64 // repositories and entries
	shares  map[string]*share
	largest largest
}

// New returns an empty cache of limit bytes. It adds to counts.
func New(limit int64, counts *Counts) *Cache {
	return &Cache{limit: limit, counts: counts, shares: map[string]*share{}}
}

// share is the entries of one repository.
type share struct {
	repository string
	used       int64
	added      uint64 // the number of the repository or its latest entry
	index      int    // in the heap
	entries    map[string]*item
	latest     item             // the head of the ring of the entries; its next is the latest used
	asked      [seenKeys]uint32 // digests of keys without an entry; see isRepeated
}

// seenKeys bounds the keys without an entry that a repository remembers, each by a digest.
const seenKeys = 128

var keySeed = maphash.MakeSeed()

// isRepeated reports whether the key is remembered, and remembers it in place of another
// one. Two keys with the same digest only cause an entry to be kept early.
func (s *share) isRepeated(key []byte) bool {
	digest := maphash.Bytes(keySeed, key)
	place, short := &s.asked[digest%seenKeys], uint32(digest>>32)
	known := *place == short
	*place = short
	return known
}

// item is an entry in the ring of its share.
type item struct {
	Entry
	key        string
	size       int64
	prev, next *item
}

// Get returns the decision of a key of a repository that holds at a time.
func (c *Cache) Get(repository string, key []byte, at time.Time) (d policy.Decision, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shares[repository]; s != nil {
		if i := s.entries[string(key)]; i != nil && i.holds(at) {
			i.unlink()
			s.latest.link(i)
			c.counts.Hits.Add(1)
			return i.Decision, true
		}
	}
	c.counts.Misses.Add(1)
	return policy.Decision{}, false
}

// Put adds a decision. The cache copies key.
func (c *Cache) Put(repository string, key []byte, e Entry) {
	size := sizeOf(repository, key, &e.Decision)
	if size > maxEntry || size+shareBytes > c.limit/shareOfRepository {
		c.counts.TooLarge.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shares[repository]
	if s == nil {
		c.added++
		s = &share{repository: repository, used: shareBytes, added: c.added, entries: map[string]*item{}}
		s.latest.prev, s.latest.next = &s.latest, &s.latest
		c.shares[repository] = s
		c.used += shareBytes
		heap.Push(&c.largest, s)
	}
	full := s.used+size > c.limit/shareOfRepository || c.used+size > c.limit
	if old := s.entries[string(key)]; old != nil {
		c.drop(s, old)
	} else if full && !s.isRepeated(key) {
		c.shrink() // to make room for a new repository
		return
	}
	i := &item{Entry: e, key: string(key), size: size}
	s.entries[i.key] = i
	s.latest.link(i)
	s.used += size
	c.used += size
	c.added++
	s.added = c.added
	for s.used > c.limit/shareOfRepository {
		c.drop(s, s.latest.prev)
		c.counts.Evictions.Add(1)
	}
	heap.Fix(&c.largest, s.index)
	c.shrink()
}

// shrink evicts entries until the cache is within its bound.
func (c *Cache) shrink() {
	for c.used > c.limit {
		c.evict()
	}
}

// evict drops an entry of the repository that has the most bytes, or the repository if it
// has no entry.
func (c *Cache) evict() {
	s := c.largest[0]
	if len(s.entries) == 0 {
		heap.Remove(&c.largest, s.index)
		delete(c.shares, s.repository)
		c.used -= s.used
		return
	}
	c.drop(s, s.latest.prev)
	c.counts.Evictions.Add(1)
	heap.Fix(&c.largest, s.index)
}

// drop removes an entry from its share. The caller restores the order of the heap.
func (c *Cache) drop(s *share, i *item) {
	i.unlink()
	delete(s.entries, i.key)
	s.used -= i.size
	c.used -= i.size
}

// Used returns the bytes and the number of the entries.
func (c *Cache) Used() (bytes int64, entries int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shares {
		entries += len(s.entries)
	}
	return c.used, entries
}

// link puts an entry next to the head of its ring.
func (head *item) link(i *item) {
	i.prev, i.next = head, head.next
	head.next.prev = i
	head.next = i
}

func (i *item) unlink() {
	i.prev.next, i.next.prev = i.next, i.prev
	i.prev, i.next = nil, nil
}

// sizeOf estimates the memory of an entry, in bytes.
func sizeOf(repository string, key []byte, d *policy.Decision) int64 {
	const textBytes = 16
	n := entryBytes + 2*len(key) + len(repository) + len(d.Rule) + len(d.Message) + len(d.Notice)
	for _, rule := range d.Rules {
		n += textBytes + len(rule)
	}
	for i := range d.Exceptions {
		e := &d.Exceptions[i]
		n += 128 + len(e.Path) + len(e.Owner) + len(e.Ticket) + len(e.Repository)
		for _, host := range e.Hosts {
			n += textBytes + len(host)
		}
	}
	return int64(n)
}

// largest is a heap of shares, the one with the most bytes first.
type largest []*share

func (l largest) Len() int { return len(l) }
func (l largest) Less(i, j int) bool {
	if a, b := l[i].used/sameBytes, l[j].used/sameBytes; a != b {
		return a > b
	}
	return l[i].added < l[j].added
}
func (l largest) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

// Push adds a share; see [heap.Interface].
func (l *largest) Push(x any) {
	s := x.(*share)
	s.index = len(*l)
	*l = append(*l, s)
}

// Pop removes the last share; see [heap.Interface].
func (l *largest) Pop() any {
	last := (*l)[len(*l)-1]
	(*l)[len(*l)-1] = nil
	*l = (*l)[:len(*l)-1]
	return last
}
