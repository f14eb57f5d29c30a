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

func (r *Rates) buckets() int { return len(r.recent) + len(r.before) }

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

// TestRatesAreBounded: a flood from many addresses takes bounded memory, its new addresses
// share one bucket, known addresses keep theirs, and the memory is released.
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
	if r.buckets() > maxAddresses || allowed > maxAddresses+10 {
		t.Errorf("%d buckets, and %d requests are allowed", r.buckets(), allowed)
	}
	if !r.Allow(known) {
		t.Error("a known address is refused during a flood from others")
	}
	for range 2 {
		c.at = c.at.Add(2 * burstTime)
		r.Allow(known)
	}
	if r.buckets() != 1 {
		t.Errorf("%d buckets remain after the flood", r.buckets())
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
	if r.buckets() != 2*maxAddresses {
		t.Errorf("%d buckets", r.buckets())
	}
}
