// Package eviction selects the connection that a listener closes when it has too many: the
// oldest of the client address that has the most.
package eviction

import (
	"container/list"
	"net/netip"
	"sync"
)

// Limiter holds the connections of a listener that may be evicted, in total and per client
// address. At a limit, the address with the most connections loses its oldest: a client
// that floods the limiter evicts its own connections. Make one with [New]. It is safe for
// concurrent use.
type Limiter struct {
	max, maxPerClient int

	mu      sync.Mutex
	len     int
	clients map[netip.Addr]*clientConns
	byCount []*list.List // of *clientConns, by their number of connections
	largest int          // the last list of byCount that is not empty
}

// New returns a limiter of at most max connections, and of maxPerClient of one address. Zero
// means no limit: then only [Limiter.EvictOldest] evicts.
func New(maximum, maxPerClient int) *Limiter {
	return &Limiter{max: maximum, maxPerClient: maxPerClient, clients: make(map[netip.Addr]*clientConns)}
}

// clientConns holds the connections of one client address.
type clientConns struct {
	address   netip.Addr
	conns     list.List // of *Entry, the oldest first
	inByCount *list.Element
}

// Evictable is a connection that a limiter may evict.
type Evictable interface {
	// Evict closes the connection, or makes its goroutine close it. It is called with the
	// limiter's lock held: it must not block, and not call the limiter.
	Evict()
}

// Entry is the position of a connection in a limiter, whose lock guards it. The zero value is
// none.
type Entry struct {
	conn    Evictable
	client  *clientConns // nil: not in the limiter
	element *list.Element
}

// Add adds a connection of a client address as the newest, and evicts one if a limit is
// exceeded.
func (l *Limiter) Add(client netip.Addr, e *Entry, c Evictable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(e) // it may be there already
	g := l.clients[client]
	if g == nil {
		g = &clientConns{address: client}
		l.clients[client] = g
	}
	*e = Entry{c, g, g.conns.PushBack(e)}
	l.len++
	l.recount(g, g.conns.Len()-1)
	switch {
	case l.maxPerClient > 0 && g.conns.Len() > l.maxPerClient:
		l.evict(g)
	case l.max > 0 && l.len > l.max:
		l.evict(l.byCount[l.largest].Front().Value.(*clientConns))
	}
}

// Remove removes a connection, if it is still there.
func (l *Limiter) Remove(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(e)
}

// EvictOldest evicts the oldest connection of the address with the most, and reports whether
// it did: not if no address has at least so many.
func (l *Limiter) EvictOldest(atLeast int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.largest < max(1, atLeast) {
		return false
	}
	l.evict(l.byCount[l.largest].Front().Value.(*clientConns))
	return true
}

// Len returns the number of connections.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.len
}

// evict evicts the oldest connection of an address.
func (l *Limiter) evict(g *clientConns) {
	oldest := g.conns.Front().Value.(*Entry)
	evicted := oldest.conn
	l.remove(oldest)
	evicted.Evict()
}

func (l *Limiter) remove(e *Entry) {
	g := e.client
	if g == nil {
		return
	}
	g.conns.Remove(e.element)
	*e = Entry{}
	l.len--
	l.recount(g, g.conns.Len()+1)
	if g.conns.Len() == 0 {
		delete(l.clients, g.address)
	}
}

// recount moves an address to the list of its number of connections, which was before.
func (l *Limiter) recount(g *clientConns, before int) {
	if before > 0 {
		l.byCount[before].Remove(g.inByCount)
	}
	now := g.conns.Len()
	for len(l.byCount) <= now {
		l.byCount = append(l.byCount, list.New())
	}
	if now > 0 {
		g.inByCount = l.byCount[now].PushBack(g)
	}
	for l.largest = max(l.largest, now); l.largest > 0 && l.byCount[l.largest].Len() == 0; l.largest-- {
	}
}
