package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// throttle bounds how many events one address can cause in a second. It
// remembers a bounded number of addresses: while more than that are at it in
// one second, the rest share what is left.
type throttle struct {
	perSecond int

	mu     sync.Mutex
	second int64
	counts map[netip.Addr]int
}

const throttleAddresses = 4096

// take reports whether the address may cause one more event at that time. IPv6
// clients are told apart by their /64: one host has that many addresses.
func (t *throttle) take(addr netip.Addr, now time.Time) bool {
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := now.Unix(); s != t.second || t.counts == nil {
		t.second, t.counts = s, make(map[netip.Addr]int)
	}
	if _, known := t.counts[addr]; !known && len(t.counts) >= throttleAddresses {
		addr = netip.Addr{}
	}
	if t.counts[addr] >= t.perSecond {
		return false
	}
	t.counts[addr]++
	return true
}
