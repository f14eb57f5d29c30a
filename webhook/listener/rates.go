package listener

import (
	"net/netip"
	"sync"
	"time"
)

// burstTime is how many seconds of its rate an address may use at once. An address that
// sends nothing for so long has its whole burst again, and is forgotten.
const burstTime = 2 * time.Second

// maxAddresses bounds how many addresses have a bucket of their own. Further addresses
// share one.
const maxAddresses = 8192

// Rates limits the requests per second of each source address (of IPv6, each /64) by token
// buckets. Memory is bounded: while a flood from many addresses lasts, new addresses
// share one bucket; an address that is silent is forgotten within 4 s of the next request.
// It is safe for concurrent use.
type Rates struct {
	perSecond float64
	now       func() time.Time

	mu         sync.Mutex
	recent     map[netip.Addr]*bucket // with a request since rotated
	before     map[netip.Addr]*bucket // with a request in the period before, and none since
	overflow   bucket                 // of the addresses that have no bucket
	rotated    time.Time
	maxBuckets int
}

// bucket is a token bucket. The zero bucket is full.
type bucket struct {
	used float64 // tokens that were spent and not refilled yet
	at   time.Time
}

// NewRates returns limits of so many requests per second. now is the clock; nil: time.Now.
func NewRates(perSecond int, now func() time.Time) *Rates {
	if now == nil {
		now = time.Now
	}
	return &Rates{perSecond: float64(perSecond), now: now, recent: map[netip.Addr]*bucket{}, before: map[netip.Addr]*bucket{}, rotated: now(), maxBuckets: maxAddresses}
}

// Allow reports whether the address may send another request now, and counts it.
func (r *Rates) Allow(client netip.Addr) bool {
	client = host(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.rotated) >= burstTime {
		r.before, r.recent, r.rotated = r.recent, map[netip.Addr]*bucket{}, now
	}
	return r.bucketOf(client).spend(now, r.perSecond)
}

func (r *Rates) bucketOf(client netip.Addr) *bucket {
	if b, ok := r.recent[client]; ok {
		return b
	}
	b, ok := r.before[client]
	if ok {
		delete(r.before, client)
	} else if len(r.recent)+len(r.before) >= r.maxBuckets {
		return &r.overflow
	} else {
		b = &bucket{}
	}
	r.recent[client] = b
	return b
}

// spend removes one token, and reports whether the bucket had one.
func (b *bucket) spend(now time.Time, perSecond float64) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if b.used+1 > perSecond*burstTime.Seconds() {
		return false
	}
	b.used++
	return true
}

// host returns what counts as one address: of IPv6 the /64, because one host can have that
// many addresses.
func host(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a.Unmap()
}
