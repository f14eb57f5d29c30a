package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Upstream has the servers that clients reach through a proxy, on loopback: one that
// returns what it receives, one that sends as many bytes as it is asked for, one that
// discards what it receives and acknowledges the end, and one of HTTP.
type Upstream struct {
	Echo, Source, Sink, HTTP string // host:port

	listeners []net.Listener
	running   sync.WaitGroup
	mu        sync.Mutex
	conns     map[net.Conn]bool // nil after Close
}

// bodySize is the length of the body of a response.
const bodySize = 1024

// StartUpstream starts the servers.
func StartUpstream() (*Upstream, error) {
	u := &Upstream{conns: map[net.Conn]bool{}}
	for _, s := range []struct {
		address *string
		handle  func(net.Conn)
	}{
		{&u.Echo, func(c net.Conn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }},
		{&u.Source, source},
		{&u.Sink, sink},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			u.Close()
			return nil, fmt.Errorf("start the upstream: %w", err)
		}
		*s.address = l.Addr().String()
		u.listeners = append(u.listeners, l)
		u.running.Go(func() { u.accept(l, s.handle) })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("start the upstream: %w", err)
	}
	u.HTTP = l.Addr().String()
	u.listeners = append(u.listeners, l)
	u.running.Go(func() { _ = (&http.Server{Handler: http.HandlerFunc(page)}).Serve(listener{l, u}) }) // until the listener is closed
	return u, nil
}

// Close ends the servers and their connections.
func (u *Upstream) Close() {
	for _, l := range u.listeners {
		_ = l.Close()
	}
	u.mu.Lock()
	conns := u.conns
	u.conns = nil
	for c := range conns {
		_ = c.Close()
	}
	u.mu.Unlock()
	u.running.Wait()
}

func (u *Upstream) accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		u.running.Go(func() {
			defer u.forget(c)
			if u.add(c) {
				handle(c)
			}
		})
	}
}

func (u *Upstream) add(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conns != nil {
		u.conns[c] = true
	}
	return u.conns != nil
}

func (u *Upstream) forget(c net.Conn) {
	_ = c.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
}

// listener closes the connections of the HTTP server with the upstream.
type listener struct {
	net.Listener
	upstream *Upstream
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && !l.upstream.add(c) {
		_ = c.Close()
		err = net.ErrClosed
	}
	return c, err
}

// source reads a number and a line feed, and sends so many bytes.
func source(c net.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return
	}
	_ = send(c, n) // the client notices
}

// send writes n bytes.
func send(w io.Writer, n int64) error {
	block := make([]byte, 256<<10)
	for n > 0 {
		written, err := w.Write(block[:min(n, int64(len(block)))])
		if n -= int64(written); err != nil {
			return err
		}
	}
	return nil
}

// receive reads to the end or n bytes.
func receive(r io.Reader, n int64) error {
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(r, n), make([]byte, 256<<10))
	if err == nil && got != n {
		err = errors.New("the transfer ended early")
	}
	return err
}

// sink reads a number and a line feed, then so many bytes, and acknowledges them.
func sink(c net.Conn) {
	reader := bufio.NewReader(c)
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err == nil && receive(reader, n) == nil {
		_, _ = c.Write([]byte{1})
	}
}

var body = make([]byte, bodySize)

// page reads a request to its end, and responds with a body of [bodySize].
func page(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header()["Date"] = nil
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(body)
}
