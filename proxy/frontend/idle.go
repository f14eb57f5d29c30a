package frontend

import (
	"container/list"
	"net/netip"
	"sync"
)

// idleLimiter limits the idle connections, in total and per client address: those
// whose next head has not arrived. An idle connection costs its client nothing. At a
// limit, the address with the most idle connections loses its oldest. A client that
// sends its head at once is never the oldest for long, and a client that floods the
// limiter evicts its own connections.
type idleLimiter struct {
	max, maxPerClient int

	mu      sync.Mutex
	len     int
	clients map[netip.Addr]*clientConns
	byCount []*list.List // of *clientConns, by their number of connections
	largest int          // the last list of byCount that is not empty
}

// clientConns holds the idle connections of one client address.
type clientConns struct {
	address   netip.Addr
	conns     list.List // of *idleEntry, the oldest first
	inByCount *list.Element
}

// evictable is a connection that the limiter may evict.
type evictable interface {
	// evict makes the goroutine of the connection close it. It is called with the
	// limiter's lock held, and does not block.
	evict()
}

// idleEntry is the position of a connection in the limiter. The limiter's lock guards
// it.
type idleEntry struct {
	conn    evictable
	client  *clientConns // nil: not in the limiter
	element *list.Element
}

// add adds a connection of a client address, and evicts one if a limit is exceeded.
func (l *idleLimiter) add(client netip.Addr, e *idleEntry, c evictable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(e) // it may be there already
	address := host(client)
	g := l.clients[address]
	if g == nil {
		g = &clientConns{address: address}
		l.clients[address] = g
	}
	*e = idleEntry{c, g, g.conns.PushBack(e)}
	l.len++
	l.recount(g, g.conns.Len()-1)
	switch {
	case g.conns.Len() > l.maxPerClient:
	case l.len > l.max:
		g = l.byCount[l.largest].Front().Value.(*clientConns)
	default:
		return
	}
	oldest := g.conns.Front().Value.(*idleEntry)
	evicted := oldest.conn
	l.removeLocked(oldest)
	evicted.evict()
}

// remove removes a connection, if it is still there.
func (l *idleLimiter) remove(e *idleEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(e)
}

func (l *idleLimiter) removeLocked(e *idleEntry) {
	g := e.client
	if g == nil {
		return
	}
	g.conns.Remove(e.element)
	*e = idleEntry{}
	l.len--
	l.recount(g, g.conns.Len()+1)
	if g.conns.Len() == 0 {
		delete(l.clients, g.address)
	}
}

// recount moves an address to the list of its number of connections, which was before.
func (l *idleLimiter) recount(g *clientConns, before int) {
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

func (l *idleLimiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.len
}
