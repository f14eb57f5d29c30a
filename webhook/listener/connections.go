package listener

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

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

// add counts a connection whose address is not known yet.
func (c *connections) add() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= c.max {
		c.refused++
		return false
	}
	c.open++
	return true
}

// identify counts the connection for its address.
func (c *connections) identify(client netip.Addr) bool {
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

// counted is a listener whose connections are counted, and begin with a PROXY protocol
// header where a load balancer sends one.
type counted struct {
	net.Listener
	server *Server
}

// Accept returns the next connection. Over the total limit it closes connections.
func (l counted) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.server.connections.add() {
			return &conn{Conn: accepted, server: l.server}, nil
		}
		_ = accepted.Close()
	}
}

// conn is one connection. Its remote address is that of the client, once begin has read
// the PROXY protocol header: net/http asks for the address in the connection's own
// goroutine, before it reads, so that a slow header delays no other connection.
type conn struct {
	net.Conn
	server *Server

	begun  sync.Once
	client net.Addr
	key    netip.Addr // that the connection is counted for; invalid: none
	err    error      // ends the connection

	closed sync.Once
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

// begin finds out the client's address, and counts the connection for it.
func (c *conn) begin() {
	c.client = c.Conn.RemoteAddr()
	client, ok := addressOf(c.client)
	if !ok {
		c.err = errNotTCP
		return
	}
	if slices.ContainsFunc(c.server.config.ProxyProtocolFrom, func(n netip.Prefix) bool { return n.Contains(client.Addr()) }) {
		source, err := c.proxied()
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
	if !c.server.connections.identify(key) {
		c.err = errOverLimit
		return
	}
	c.key = key
}

// proxied reads the header.
func (c *conn) proxied() (netip.AddrPort, error) {
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
	c.closed.Do(func() {
		c.begun.Do(func() {}) // a connection that never began is counted for no address
		c.server.connections.remove(c.key)
	})
	return err
}

func addressOf(a net.Addr) (netip.AddrPort, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	address := tcp.AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port()), true
}
