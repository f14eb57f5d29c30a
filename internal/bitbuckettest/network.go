package bitbuckettest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// network is how the server is reached: a TCP listener or pipes in memory. It
// can be taken away and brought back under the same address.
type network struct {
	mu        sync.Mutex
	scheme    string
	host      string // what clients see; set by the first Start unless given
	authority *authority

	address   string // of the last TCP listener, for Start after Stop
	server    *http.Server
	cancel    context.CancelFunc
	served    chan struct{}
	memory    *memoryListener
	transport *http.Transport
}

func (n *network) prepare(scheme, host string, useTLS bool) error {
	n.scheme, n.host = scheme, host
	if !useTLS {
		return nil
	}
	var err error
	n.authority, err = newAuthority(host)
	return err
}

func (n *network) baseURL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == "" {
		return ""
	}
	return n.scheme + "://" + n.host
}

// Start listens on a TCP address such as "127.0.0.1:0" and serves until Stop or
// Close. After Stop the empty address means the one before, so that an outage
// ends where it began; another address is then refused, for it would change
// every issuer.
func (s *Server) Start(address string) error {
	n := &s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if address == "" {
		address = n.address
	}
	if n.address != "" && address != n.address {
		return fmt.Errorf("bitbuckettest: start: it served on %s before, not on %s", n.address, address)
	}
	if n.server != nil {
		return errors.New("bitbuckettest: start: it serves already")
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return fmt.Errorf("bitbuckettest: start: %w", err)
	}
	n.address = l.Addr().String()
	if n.host == "" {
		n.host = n.address
	}
	n.serve(s, l)
	return nil
}

// StartInMemory serves without a socket, for clients made by Client alone and
// for tests in a testing/synctest bubble, where the network does not count as
// waiting. Options need a BaseURL.
func (s *Server) StartInMemory() error {
	n := &s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return errors.New("bitbuckettest: start in memory: it serves already")
	}
	if n.host == "" {
		return errors.New("bitbuckettest: start in memory: Options.BaseURL is needed")
	}
	n.memory = newMemoryListener()
	n.serve(s, n.memory)
	return nil
}

// serve begins to serve on l; the caller holds mu.
func (n *network) serve(s *Server, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	// The errors that the server would log are the faults that were asked for.
	n.server = &http.Server{
		Handler:           s,
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	if n.authority != nil {
		l = tls.NewListener(l, &tls.Config{
			Certificates: []tls.Certificate{n.authority.leaf},
			MinVersion:   tls.VersionTLS12,
			NextProtos:   []string{"http/1.1"}, // a reset needs a connection of its own
		})
	}
	n.served = make(chan struct{})
	go func(server *http.Server, served chan struct{}) {
		defer close(served)
		_ = server.Serve(l) // always http.ErrServerClosed, or the listener was closed under it
	}(n.server, n.served)
}

// Stop is an outage: the listener and every connection are closed, requests
// that hang are cut, and it returns when all of them have ended. The model, the
// keys and the address stay; Start(""), or StartInMemory, ends the outage.
func (s *Server) Stop() {
	n := &s.network
	n.mu.Lock()
	server, cancel, served, transport := n.server, n.cancel, n.served, n.transport
	n.server, n.memory = nil, nil
	n.mu.Unlock() // requests that are being answered need it
	if server == nil {
		return
	}
	cancel()
	_ = server.Close() // closing is all that is wanted of it
	<-served
	if transport != nil {
		transport.CloseIdleConnections()
	}
	s.waitIdle()
}

// Close ends the server for good: it stops, releases what hangs and gives its
// keys back to the process. Nothing can be signed afterwards: that panics. It
// may be called twice.
func (s *Server) Close() {
	s.ClearFaults()
	s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for _, k := range s.rsaKeys {
		k.release()
	}
	s.rsaKeys = nil
}

// Client returns a client that reaches the server, in memory too, and trusts
// its certificate. It takes no proxy from the environment.
func (s *Server) Client() *http.Client {
	n := &s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transport == nil {
		n.transport = &http.Transport{DialContext: n.dial, IdleConnTimeout: time.Minute}
		if n.authority != nil {
			n.transport.TLSClientConfig = &tls.Config{RootCAs: n.authority.pool(), MinVersion: tls.VersionTLS12}
		}
	}
	return &http.Client{Transport: n.transport}
}

// dial connects to the server when the address is its own, whatever name
// Options.BaseURL gave it.
func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	memory, real := n.memory, n.address
	own := address == n.host || address == n.host+":80" || address == n.host+":443"
	n.mu.Unlock()
	if own && memory != nil {
		return memory.dial(ctx)
	}
	if own && real != "" {
		address = real
	}
	return new(net.Dialer).DialContext(ctx, kind, address)
}

// CAPEM returns the certificate of the authority that signed the server's own,
// in PEM, and nil without TLS.
func (s *Server) CAPEM() []byte {
	if s.network.authority == nil {
		return nil
	}
	return s.network.authority.pem
}

// CertPool returns a pool with that certificate alone, and nil without TLS.
func (s *Server) CertPool() *x509.CertPool {
	if s.network.authority == nil {
		return nil
	}
	return s.network.authority.pool()
}

// memoryListener hands out pipes.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }

func (l *memoryListener) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("bitbuckettest: dial: the server is stopped")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
