package listener

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/eviction"
	"github.com/sallyport/sallyport/internal/proxyprotocol"
)

// proxyHeaderTimeout bounds how long a load balancer may take to send its header.
const proxyHeaderTimeout = 5 * time.Second

// The errors that end a connection before its first request.
var (
	errOverLimit = errors.New("this address has as many connections as it may have")
	errNotTCP    = errors.New("the connection has no IP address")
)

// connections counts open connections, in total and per address.
type connections struct {
	max, perClient int

	mu      sync.Mutex
	open    int
	clients map[netip.Addr]int
	refused uint64
}

// add counts a connection whose address is not known yet, unless there are too many.
func (c *connections) add() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.max {
		return false
	}
	c.open++
	return true
}

// refuse counts a connection that a limit closed.
func (c *connections) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
}

// addClient counts the connection for its address.
func (c *connections) addClient(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients[client] >= c.perClient {
		c.refused++
		return false
	}
	c.clients[client]++
	return true
}

// remove ends the count of a connection, and that of its address if it had one.
func (c *connections) remove(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if !client.IsValid() {
		return
	}
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
}

// countingListener counts its connections, and reads the PROXY protocol header of those that
// a load balancer opens.
type countingListener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection. At the total limit it evicts another one, and closes
// the new one if none can be evicted.
func (l countingListener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.server.admit() {
			return &conn{Conn: accepted, server: l.server, done: make(chan struct{})}, nil
		}
		_ = accepted.Close()
	}
}

// admit counts a new connection, at the total limit in the place of an evicted one.
func (s *Server) admit() bool {
	for !s.connections.add() {
		s.connections.refuse() // one is closed, the old or the new one
		if !s.evict() {
			return false
		}
	}
	return true
}

// evictOldest evicts the oldest idle connection of the address with the most of them. If there
// is none, the address with the most requests in progress that are not verified loses its
// oldest, also if that is its only one: attackers with many addresses may send slow bodies. A
// flood keeps a delivery out only if it opens as many connections as there may be while the
// delivery's body arrives. Connections with a verified request are never evicted.
func (s *Server) evictOldest() bool { return s.idle.EvictOldest(1) || s.busy.EvictOldest(1) }

// conn is one connection. Its remote address is that of the client, once begin has read
// the PROXY protocol header. net/http calls RemoteAddr in the connection's own goroutine,
// before it reads, so that a slow header delays no other connection.
type conn struct {
	net.Conn
	server *Server

	begun  sync.Once
	client net.Addr
	key    netip.Addr // address for which the connection is counted; invalid: none
	err    error      // ends the connection

	mu                   sync.Mutex
	requests             int // in progress
	verified             int // of these
	ended                bool
	idleEntry, busyEntry eviction.Entry
	evicted              atomic.Bool

	closed sync.Once
	done   chan struct{} // closed with the connection
}

// RemoteAddr returns the client's address.
func (c *conn) RemoteAddr() net.Addr {
	c.begun.Do(c.begin)
	return c.client
}

func (c *conn) Read(b []byte) (int, error) {
	c.begun.Do(c.begin)
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(b)
}

// begin determines the client's address, and counts the connection for it.
func (c *conn) begin() {
	c.client = c.Conn.RemoteAddr()
	client, ok := addressOf(c.client)
	if !ok {
		c.err = errNotTCP
		return
	}
	if slices.ContainsFunc(c.server.config.ProxyProtocolFrom, func(n netip.Prefix) bool { return n.Contains(client.Addr()) }) {
		source, err := c.readProxyHeader()
		if err != nil {
			c.err = err
			c.server.refusedHeader(client.Addr(), err)
			return
		}
		if source.IsValid() {
			client = source
			c.client = net.TCPAddrFromAddrPort(source)
		}
	}
	key := host(client.Addr())
	if !c.server.connections.addClient(key) {
		c.err = errOverLimit
		return
	}
	c.key = key
	c.server.idle.Add(key, &c.idleEntry, c)
}

// begins and ends move the connection between the idle and the busy ones.
func (c *conn) begins() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests++; c.requests == 1 {
		c.server.idle.Remove(&c.idleEntry)
		c.add(c.server.busy, &c.busyEntry)
	}
}

// verify takes the connection out of the busy ones, which may be evicted.
func (c *conn) verify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verified++; c.verified == 1 {
		c.server.busy.Remove(&c.busyEntry)
	}
}

func (c *conn) ends(verified bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests--
	if verified {
		c.verified--
	}
	switch {
	case c.requests == 0:
		c.server.busy.Remove(&c.busyEntry)
		c.add(c.server.idle, &c.idleEntry)
	case verified && c.verified == 0:
		c.add(c.server.busy, &c.busyEntry)
	}
}

// request is one request in progress. Its handler's goroutine alone uses it.
type request struct {
	conn     *conn
	verified bool
}

// Verified protects the connection of a request from eviction until the response: its sender
// has a secret. It takes the request's context, and is called by the goroutine of the handler.
func Verified(ctx context.Context) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok && !r.verified {
		r.verified = true
		r.conn.verify()
	}
}

func (c *conn) add(l *eviction.Limiter, e *eviction.Entry) {
	if !c.ended && !c.evicted.Load() {
		l.Add(c.key, e, c)
	}
}

// Evict closes the connection and ends its count at once: its goroutine, which closes it too,
// may still have a request in progress.
func (c *conn) Evict() {
	c.evicted.Store(true)
	_ = c.Conn.Close()
	c.uncount()
}

// readProxyHeader returns the client's address from the PROXY protocol header.
func (c *conn) readProxyHeader() (netip.AddrPort, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(proxyHeaderTimeout)); err != nil {
		return netip.AddrPort{}, err
	}
	source, err := proxyprotocol.Read(c.Conn)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return source, c.Conn.SetReadDeadline(time.Time{})
}

// Close closes the connection, and ends its count.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.begun.Do(func() {}) // a connection that never began is counted for no address
	c.mu.Lock()
	c.ended = true
	c.server.idle.Remove(&c.idleEntry)
	c.server.busy.Remove(&c.busyEntry)
	c.mu.Unlock()
	c.uncount()
	if c.evicted.Load() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (c *conn) uncount() {
	c.closed.Do(func() {
		close(c.done)
		c.server.connections.remove(c.key)
	})
}

func addressOf(a net.Addr) (netip.AddrPort, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	address := tcp.AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port()), true
}
