package listener

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// burstTime is how many seconds of its rate an address may use at once. An address that
// sends nothing for so long has its whole burst again, and is forgotten.
const burstTime = 2 * time.Second

const (
	// maxAddresses bounds how many addresses have a bucket of their own.
	maxAddresses = 8192
	// maxForgotten bounds the buckets that one request examines.
	maxForgotten = 4
)

// Rates limits the requests per second of each source address (of IPv6, each /64) by token
// buckets. Memory is bounded: for a new address, the bucket that was idle for longest and is
// full again is forgotten, which changes nothing for its address. Only if none is full do
// further addresses share a bucket. A flood has to send as many requests as maxAddresses
// addresses are allowed to together for that: with 50 a second, 400,000 a second. It is safe
// for concurrent use.
type Rates struct {
	perSecond float64
	now       func() time.Time

	mu         sync.Mutex
	buckets    map[netip.Addr]*list.Element // of *bucket
	idle       list.List                    // of *bucket, the one with the oldest request first
	overflow   bucket                       // of the addresses that have no bucket
	maxBuckets int
	// keepFull keeps full buckets, for a test.
	keepFull bool
}

// bucket is a token bucket. The zero bucket is full.
type bucket struct {
	client netip.Addr
	used   float64 // tokens that were spent and not refilled yet
	at     time.Time
}

// NewRates returns limits of so many requests per second. now is the clock; nil: time.Now.
func NewRates(perSecond int, now func() time.Time) *Rates {
	if now == nil {
		now = time.Now
	}
	return &Rates{perSecond: float64(perSecond), now: now, buckets: map[netip.Addr]*list.Element{}, maxBuckets: maxAddresses}
}

// Allow reports whether the address may send another request now, and counts it.
func (r *Rates) Allow(client netip.Addr) bool {
	client = host(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.forget(now)
	return r.bucketOf(client, now).spend(now, r.perSecond)
}

// forget removes a few buckets that have been full for long.
func (r *Rates) forget(now time.Time) {
	for range maxForgotten {
		oldest := r.idle.Front()
		if oldest == nil || now.Sub(oldest.Value.(*bucket).at) < burstTime {
			return
		}
		r.remove(oldest)
	}
}

func (r *Rates) remove(e *list.Element) {
	delete(r.buckets, e.Value.(*bucket).client)
	r.idle.Remove(e)
}

func (r *Rates) bucketOf(client netip.Addr, now time.Time) *bucket {
	if e, ok := r.buckets[client]; ok {
		r.idle.MoveToBack(e)
		return e.Value.(*bucket)
	}
	if len(r.buckets) >= r.maxBuckets && !r.replaceFull(now) {
		return &r.overflow
	}
	b := &bucket{client: client}
	r.buckets[client] = r.idle.PushBack(b)
	return b
}

// replaceFull removes a bucket that is full again, of those with the oldest requests.
func (r *Rates) replaceFull(now time.Time) bool {
	e := r.idle.Front()
	for range maxForgotten {
		if e == nil || r.keepFull {
			return false
		}
		if b := e.Value.(*bucket); b.left(now, r.perSecond) == 0 {
			r.remove(e)
			return true
		}
		e = e.Next()
	}
	return false
}

// left returns how many tokens are spent and not refilled at a time.
func (b *bucket) left(now time.Time, perSecond float64) float64 {
	return max(0, b.used-now.Sub(b.at).Seconds()*perSecond)
}

// spend removes one token, and reports whether the bucket had one.
func (b *bucket) spend(now time.Time, perSecond float64) bool {
	b.used = b.left(now, perSecond)
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
