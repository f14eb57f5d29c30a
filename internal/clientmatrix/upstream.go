package clientmatrix

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// Upstream is the target of all clients: a server with TLS and one without, and raw
// relays. It keeps every byte that it receives, TLS removed. It is safe for concurrent
// use.
type Upstream struct {
	HTTPS, HTTP int // ports of 127.0.0.1

	handler http.Handler
	servers []*http.Server
	relays  []net.Listener
	running sync.WaitGroup

	mu       sync.Mutex
	received []*recording
	held     map[string]*hold
}

type recording struct {
	mu   sync.Mutex
	text []byte
}

func (r *recording) add(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
}

// hold is a host whose requests wait.
type hold struct {
	arrived, released chan struct{}
	once, release     sync.Once
}

// StartUpstream starts the servers. issue returns the certificate of a name.
func StartUpstream(issue func(name string) (*tls.Certificate, error), handler http.Handler) (*Upstream, error) {
	u := &Upstream{handler: handler, held: make(map[string]*hold)}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName == "" {
				return nil, errors.New("the ClientHello has no server name")
			}
			return issue(hello.ServerName)
		},
	}
	var err error
	if u.HTTPS, err = u.serve(config); err == nil {
		u.HTTP, err = u.serve(nil)
	}
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("start the upstream: %w", err)
	}
	return u, nil
}

func (u *Upstream) serve(config *tls.Config) (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	// TLS ends in the listener, so that all that it carried can be kept. The server
	// then takes HTTP/2 by prior knowledge (RFC 9113 section 3.3).
	server := &http.Server{Handler: u, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	u.servers = append(u.servers, server)
	u.running.Go(func() { _ = server.Serve(&recorder{l, config, u}) })
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Relay accepts connections on a port of 127.0.0.1 and carries them to dial's.
func (u *Upstream) Relay(dial func() (net.Conn, error)) (port int, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	u.relays = append(u.relays, l)
	recording := &recorder{l, nil, u}
	u.running.Go(func() {
		for {
			client, err := recording.Accept()
			if err != nil {
				return
			}
			u.running.Go(func() { relay(client, dial) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port, nil
}

func relay(client net.Conn, dial func() (net.Conn, error)) {
	defer client.Close()
	server, err := dial()
	if err != nil {
		return
	}
	defer server.Close()
	var done sync.WaitGroup
	done.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	_, _ = io.Copy(client, server)
	client.Close()
	done.Wait()
}

// ServeHTTP responds to a request, once its host is not held.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	u.keepHead(r)
	u.mu.Lock()
	h := u.held[host]
	u.mu.Unlock()
	if h != nil {
		h.once.Do(func() { close(h.arrived) })
		select {
		case <-h.released:
		case <-r.Context().Done():
			return
		}
	}
	u.handler.ServeHTTP(w, r)
}

// keepHead keeps the head of a request as text: HTTP/2 compresses it (RFC 7541).
func (u *Upstream) keepHead(r *http.Request) {
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s %s\n", r.Method, r.RequestURI, r.Host)
	_ = r.Header.Write(&head) // into memory
	u.mu.Lock()
	defer u.mu.Unlock()
	u.received = append(u.received, &recording{text: head.Bytes()})
}

// Hold lets the requests for a host wait until release is called. arrived is closed
// when the first of them waits.
func (u *Upstream) Hold(host string) (arrived <-chan struct{}, release func()) {
	h := &hold{arrived: make(chan struct{}), released: make(chan struct{})}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held[host] = h
	return h.arrived, func() { h.release.Do(func() { close(h.released) }) }
}

// Contains reports whether any connection carried the text to the upstream.
func (u *Upstream) Contains(text []byte) bool {
	u.mu.Lock()
	all := u.received
	u.mu.Unlock()
	for _, r := range all {
		r.mu.Lock()
		found := bytes.Contains(r.text, text)
		r.mu.Unlock()
		if found {
			return true
		}
	}
	return false
}

// Close ends the servers and waits for them.
func (u *Upstream) Close() {
	for _, l := range u.relays {
		_ = l.Close()
	}
	for _, s := range u.servers {
		_ = s.Close()
	}
	u.mu.Lock()
	for _, h := range u.held {
		h.release.Do(func() { close(h.released) })
	}
	u.mu.Unlock()
	u.running.Wait()
}

// recorder is a listener whose connections keep what they receive.
type recorder struct {
	net.Listener
	config *tls.Config // nil: no TLS
	u      *Upstream
}

// Accept returns the next connection. TLS begins with its first read.
func (l *recorder) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.config != nil {
		conn = tls.Server(conn, l.config)
	}
	r := &recording{}
	l.u.mu.Lock()
	l.u.received = append(l.u.received, r)
	l.u.mu.Unlock()
	return &recorded{conn, r}, nil
}

type recorded struct {
	net.Conn
	recording *recording
}

// Read reads and keeps a copy.
func (c *recorded) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.recording.add(p[:n])
	return n, err
}
