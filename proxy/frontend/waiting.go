package frontend

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// waitingRoom holds the connections whose next head has not arrived: new ones
// and kept ones. Nothing is known of a new one, and to hold it costs its client
// nothing. So there is room for so many, in all and for one address. When it is
// full, the address that has the most in it gives up the one that has waited
// longest: a client that means it sends its head at once, and is never the oldest
// for long, and whoever floods the room sends his own away.
type waitingRoom struct {
	most, perAddress int

	mu        sync.Mutex
	len       int
	addresses map[netip.Addr]*guest
	having    []*list.List // of *guest: those who have so many connections, by the number
	largest   int          // the last of having that is not empty
}

// guest is an address that has connections in the room.
type guest struct {
	address  netip.Addr
	conns    list.List // of *conn, the oldest first
	inHaving *list.Element
}

// place is where a connection stands in the room.
type place struct {
	guest *guest
	in    *list.Element
}

// host is what counts as one address: of IPv6 a /64, for one host has that many.
func host(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// enter puts a connection into the room, and sends another away where there is
// none left.
func (r *waitingRoom) enter(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(c) // it may be in it
	address := host(c.client.Addr())
	g := r.addresses[address]
	if g == nil {
		g = &guest{address: address}
		r.addresses[address] = g
	}
	c.place = &place{g, g.conns.PushBack(c)}
	r.len++
	r.moved(g, g.conns.Len()-1)
	switch {
	case g.conns.Len() > r.perAddress:
	case r.len > r.most:
		g = r.having[r.largest].Front().Value.(*guest)
	default:
		return
	}
	gone := g.conns.Front().Value.(*conn)
	r.remove(gone)
	gone.sendAway()
}

// leave takes a connection out, if it is still there.
func (r *waitingRoom) leave(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(c)
}

func (r *waitingRoom) remove(c *conn) {
	p := c.place
	if p == nil {
		return
	}
	c.place = nil
	r.len--
	p.guest.conns.Remove(p.in)
	r.moved(p.guest, p.guest.conns.Len()+1)
	if p.guest.conns.Len() == 0 {
		delete(r.addresses, p.guest.address)
	}
}

// moved sets down that a guest, who had before connections, has one more or less.
func (r *waitingRoom) moved(g *guest, before int) {
	if before > 0 {
		r.having[before].Remove(g.inHaving)
	}
	now := g.conns.Len()
	for len(r.having) <= now {
		r.having = append(r.having, list.New())
	}
	if now > 0 {
		g.inHaving = r.having[now].PushBack(g)
	}
	for r.largest = max(r.largest, now); r.largest > 0 && r.having[r.largest].Len() == 0; r.largest-- {
	}
}

// sendAway wakes the connection's goroutine, which sees why in [conn.sentAway].
func (c *conn) sendAway() {
	c.sentAway.Store(true)
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// waitUntil sets the deadline for what is read next, unless the connection has
// been sent away: one of the two sees the other.
func (c *conn) waitUntil(t time.Time) error {
	err := c.stream.SetReadDeadline(t)
	if c.sentAway.Load() {
		err = c.stream.SetReadDeadline(time.Unix(1, 0))
	}
	return err
}

// farewell answers a connection that was sent away before its first head was
// there. It does not linger: what there is too much of is connections.
func (c *conn) farewell() {
	c.server.config.Observer.Refused(c.listener.Name, policy.Overloaded)
	if c.requests > 0 {
		return // a kept connection may end at any time (RFC 9112 section 9.5)
	}
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.RefusalTimeout)) != nil {
		return
	}
	r := proxy.NewRefusal(policy.Overloaded, "too many connections wait for a request, and this one has waited longest")
	_, _ = c.stream.Write(appendRefusal(nil, r, c.answerTo(c.server.config.Name, 1, false)))
}

// Waiting is the number of connections whose next request has not arrived.
func (s *Server) Waiting() int {
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	return s.waiting.len
}
