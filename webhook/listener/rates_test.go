package listener

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// clock is a clock that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func addressNumber(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(n))
	return netip.AddrFrom4(b)
}

func TestRates(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1e9, 0)}
	r := NewRates(5, c.now)
	allowed := func(address string, n int) (count int) {
		for range n {
			if r.Allow(netip.MustParseAddr(address)) {
				count++
			}
		}
		return count
	}
	for _, row := range []struct {
		wait    time.Duration
		address string
		want    int
	}{
		{0, "192.0.2.1", 10}, // twice the rate at once
		{0, "192.0.2.1", 0},
		{0, "192.0.2.2", 10}, // another address has its own
		{0, "2001:db8::1", 10},
		{0, "2001:db8::ffff:1", 0}, // the same /64
		{0, "2001:db8:0:1::1", 10},
		{time.Second, "192.0.2.1", 5},
		{time.Second, "192.0.2.1", 5},
		{0, "::ffff:192.0.2.1", 0}, // the same address
		{time.Hour, "192.0.2.1", 10},
	} {
		c.at = c.at.Add(row.wait)
		if got := allowed(row.address, 20); got != row.want {
			t.Errorf("%s after %s: %d requests, want %d", row.address, row.wait, got, row.want)
		}
	}
}

// TestRatesAreBounded: a flood from many addresses at one moment takes bounded memory, its new
// addresses share one bucket, known addresses keep theirs, and the memory is released.
func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1e9, 0)}
	r := NewRates(5, c.now)
	known := netip.MustParseAddr("192.0.2.1")
	r.Allow(known)
	allowed := 0
	for n := range 10 * maxAddresses {
		if r.Allow(addressNumber(n)) {
			allowed++
		}
	}
	if len(r.buckets) > maxAddresses || r.idle.Len() != len(r.buckets) || allowed > maxAddresses+10 {
		t.Errorf("%d buckets, %d in order, and %d requests are allowed", len(r.buckets), r.idle.Len(), allowed)
	}
	if !r.Allow(known) {
		t.Error("a known address is refused during a flood from others")
	}
	c.at = c.at.Add(2 * burstTime)
	for range maxAddresses/maxForgotten + 1 {
		r.Allow(known)
	}
	if len(r.buckets) != 1 || r.idle.Len() != 1 {
		t.Errorf("%d buckets remain after the flood", len(r.buckets))
	}
}

// TestFloodFromManyAddresses: 65,536 addresses, as of one IPv6 /48, send 100,000 requests a
// second. An address that is new among them is allowed each of its requests, and an attacker's
// address no more than its rate. If full buckets were kept, the address would share the
// attackers' bucket.
func TestFloodFromManyAddresses(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]bool{"control": false, "needed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clock{time.Unix(1e9, 0)}
			r := NewRates(50, c.now)
			r.keepFull = without
			greedy, refused, used := addressNumber(1<<20), 0, 0
			for n := range 300_000 { // three seconds
				c.at = c.at.Add(10 * time.Microsecond)
				r.Allow(addressNumber(n % 65_536))
				if n%100 == 0 && r.Allow(greedy) { // 1,000 a second
					used++
				}
				if n%100_000 == 50_000 && !r.Allow(addressNumber(1<<21+n)) {
					refused++
				}
			}
			if (refused > 0) != without || len(r.buckets) > maxAddresses {
				t.Errorf("%d of 3 new addresses are refused, %d buckets", refused, len(r.buckets))
			}
			if used > 3*50+100 {
				t.Errorf("one address made %d requests in three seconds", used)
			}
		})
	}
}

// TestRateBoundIsNeeded: without the bound, a flood takes a bucket for each address.
func TestRateBoundIsNeeded(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1e9, 0)}
	r := NewRates(5, c.now)
	r.maxBuckets = 1 << 30
	for n := range 2 * maxAddresses {
		r.Allow(addressNumber(n))
	}
	if len(r.buckets) != 2*maxAddresses {
		t.Errorf("%d buckets", len(r.buckets))
	}
}
