package agent

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of requests with a credential that is not valid.
const (
	maxFailures  = 10   // of one address in a minute
	maxAddresses = 4096 // counted in a minute; all further ones share one count
	maxRecent    = 4096 // credentials that were valid in the last minutes
	maxRejected  = 4096 // credentials with a wrong secret in a minute, which are not looked up again
)

// failures counts, by source address, requests whose credential is not valid. A credential
// that was valid a moment ago is checked whatever its address has done: a stranger behind
// the same address translation does not lock an agent out.
type failures struct {
	mu     sync.Mutex
	minute time.Time
	counts map[netip.Prefix]int
	recent map[[32]byte]time.Time // by digest of the credential
	// rejected are the credentials with a wrong secret in this minute: they need no further
	// query. One with an unknown id is not among them: it may be created at this moment.
	rejected map[[32]byte]bool
}

// allows reports whether a credential from an address may be checked now.
func (f *failures) allows(from netip.Prefix, digest [32]byte, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	if now.Sub(f.recent[digest]) < 5*time.Minute {
		return true
	}
	return f.counts[f.key(from)] < maxFailures
}

// failed counts a failure. A final one is remembered until the minute ends.
func (f *failures) failed(from netip.Prefix, digest [32]byte, now time.Time, final bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	f.counts[f.key(from)]++
	delete(f.recent, digest)
	if final && len(f.rejected) < maxRejected {
		f.rejected[digest] = true
	}
}

// isRejected reports whether a credential had a wrong secret in this minute.
func (f *failures) isRejected(digest [32]byte, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	return f.rejected[digest]
}

// succeeded remembers a credential that is valid.
func (f *failures) succeeded(digest [32]byte, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recent == nil || len(f.recent) >= maxRecent {
		f.recent = make(map[[32]byte]time.Time)
	}
	f.recent[digest] = now
}

// turn begins a new minute. The caller holds the lock.
func (f *failures) turn(now time.Time) {
	if f.counts == nil || now.Sub(f.minute) >= time.Minute {
		f.minute, f.counts, f.rejected = now, make(map[netip.Prefix]int), make(map[[32]byte]bool)
	}
}

// key is the address, or the shared key if too many addresses are counted.
func (f *failures) key(from netip.Prefix) netip.Prefix {
	if _, counted := f.counts[from]; counted || len(f.counts) < maxAddresses {
		return from
	}
	return netip.Prefix{}
}

// source returns where a request comes from: an IPv4 address, or an IPv6 /64.
func source(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr := at.Addr().Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
