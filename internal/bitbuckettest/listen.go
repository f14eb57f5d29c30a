package bitbuckettest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

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
	s.closeHooks()
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
