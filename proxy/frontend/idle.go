package frontend

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
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
	conns     list.List // of *conn, the oldest first
	inByCount *list.Element
}

// idleEntry is the position of a connection in the limiter.
type idleEntry struct {
	client  *clientConns
	element *list.Element
}

// host returns what counts as one address: for IPv6 the /64, because one host can
// have that many addresses.
func host(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// add adds a connection, and evicts one if a limit is exceeded.
func (l *idleLimiter) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(c) // it may be there already
	address := host(c.client.Addr())
	g := l.clients[address]
	if g == nil {
		g = &clientConns{address: address}
		l.clients[address] = g
	}
	c.idleEntry = &idleEntry{g, g.conns.PushBack(c)}
	l.len++
	l.recount(g, g.conns.Len()-1)
	switch {
	case g.conns.Len() > l.maxPerClient:
	case l.len > l.max:
		g = l.byCount[l.largest].Front().Value.(*clientConns)
	default:
		return
	}
	oldest := g.conns.Front().Value.(*conn)
	l.removeLocked(oldest)
	oldest.evict()
}

// remove removes a connection, if it is still there.
func (l *idleLimiter) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(c)
}

func (l *idleLimiter) removeLocked(c *conn) {
	p := c.idleEntry
	if p == nil {
		return
	}
	c.idleEntry = nil
	l.len--
	p.client.conns.Remove(p.element)
	l.recount(p.client, p.client.conns.Len()+1)
	if p.client.conns.Len() == 0 {
		delete(l.clients, p.client.address)
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

// evict wakes the goroutine of the connection, which finds [conn.evicted] set.
func (c *conn) evict() {
	c.evicted.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// waitUntil sets the deadline of the next read, unless the connection was evicted: of
// two concurrent calls of waitUntil and evict, one sees the effect of the other.
func (c *conn) waitUntil(t time.Time) error {
	err := c.stream.SetReadDeadline(t)
	if c.evicted.Load() {
		err = c.stream.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// rejectEvicted answers a connection that was evicted before its first head arrived.
// It does not linger: there are too many connections already.
func (c *conn) rejectEvicted() {
	c.server.config.Observer.Refused(c.listener.Name, policy.Overloaded)
	if c.requests > 0 {
		return // a kept connection may end at any time (RFC 9112 section 9.5)
	}
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.RefusalTimeout)) != nil {
		return
	}
	r := proxy.NewRefusal(policy.Overloaded, "too many connections are idle, and this one has been idle longest")
	_, _ = c.stream.Write(appendRefusal(nil, r, c.answerTo(c.server.config.Name, 1, false)))
}

func (l *idleLimiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.len
}

// Idle returns the number of connections whose next head has not arrived.
func (s *Server) Idle() int {
	return s.idle.count()
}
