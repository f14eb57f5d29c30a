package eviction

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// named is a connection that notes its eviction.
type named struct {
	Entry
	name string
	to   *[]string
}

func (n *named) Evict() { *n.to = append(*n.to, n.name) }

// TestBusiestAddressLosesItsOldest: at the total limit, at that of an address, and on demand.
func TestBusiestAddressLosesItsOldest(t *testing.T) {
	t.Parallel()
	var evicted []string
	l := New(5, 3)
	all := map[string]*named{}
	add := func(address, name string) {
		c := &named{name: name, to: &evicted}
		all[name] = c
		l.Add(netip.MustParseAddr(address), &c.Entry, c)
	}
	for i := range 4 {
		add("192.0.2.1", fmt.Sprintf("a%d", i)) // the fourth evicts a0
	}
	add("192.0.2.2", "b0")
	add("192.0.2.3", "c0")
	add("192.0.2.4", "d0") // over the total
	if !slices.Equal(evicted, []string{"a0", "a1"}) || l.Len() != 5 {
		t.Fatalf("%q, %d remain", evicted, l.Len())
	}
	if !l.EvictOldest(2) || l.EvictOldest(2) || !l.EvictOldest(1) {
		t.Error("the only connection of an address is evicted, or not where it may be")
	}
	if want := []string{"a0", "a1", "a2"}; len(evicted) != 4 || !slices.Equal(evicted[:3], want) {
		t.Errorf("%q", evicted)
	}
	for _, c := range all {
		l.Remove(&c.Entry)
	}
	if l.Len() != 0 || len(l.clients) != 0 || l.EvictOldest(0) {
		t.Errorf("%d remain, of %d addresses", l.Len(), len(l.clients))
	}
}
