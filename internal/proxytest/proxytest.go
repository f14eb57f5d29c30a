// Package proxytest has what the tests of proxy and of its adapters share. It does not
// import proxy, so that the tests inside proxy can use it.
package proxytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds every wait of a test. It is generous: only a failing test waits so
// long.
const patience = time.Minute

// Eventually polls a condition that has no signal of its own, and fails the test if the
// condition does not become true. what completes "waited in vain until".
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Listen listens on a TCP address until the test ends.
func Listen(t testing.TB, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// Server is a TCP server. It is safe for concurrent use.
type Server struct {
	Address string // host:port
	Port    string

	listener *net.TCPListener
	accepted atomic.Int32
	serving  sync.WaitGroup
}

// Serve serves each connection on a loopback port by a goroutine of its own, until the
// test ends. A connection is closed when handle returns; at the end of the test, its
// deadline expires.
func Serve(t testing.TB, handle func(*net.TCPConn)) *Server {
	t.Helper()
	return ServeOn(t, Listen(t, "127.0.0.1:0"), handle)
}

// ServeOn is [Serve] on a listener.
func ServeOn(t testing.TB, l *net.TCPListener, handle func(*net.TCPConn)) *Server {
	s := &Server{Address: l.Addr().String(), listener: l}
	_, s.Port, _ = net.SplitHostPort(s.Address)
	ended, end := context.WithCancel(context.Background())
	s.serving.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.serving.Go(func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(patience))
				defer context.AfterFunc(ended, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() { end(); s.Wait() })
	return s
}

// Accepted returns the number of connections so far.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// Wait accepts nothing more, and returns when every connection has been served.
func (s *Server) Wait() {
	_ = s.listener.Close()
	s.serving.Wait()
}

// Echo sends everything back, and then its own end. It is a handler for [Serve].
func Echo(c *net.TCPConn) { _, _ = io.Copy(c, c); _ = c.CloseWrite() }

// Certificate returns a new self-signed certificate for a name, valid for an hour, and
// the pool that trusts it.
func Certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// OneByOne reads one byte at a time, so that it consumes nothing beyond what is needed.
type OneByOne struct{ io.Reader }

// Read implements [io.Reader].
func (o OneByOne) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }
