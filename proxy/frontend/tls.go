package frontend

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"time"
)

// listenerTLS returns the configuration of a TLS listener. It selects http/1.1
// where a client offers it and no protocol otherwise: HTTP/2 would be another
// parser with other rules, and a client that offers only other names, such as
// the "http 1.1" of older Node.js agents, speaks HTTP/1.1 without a selection
// (RFC 7301 section 3.2 would end the handshake).
func listenerTLS(from *tls.Config) *tls.Config {
	const http11 = "http/1.1"
	config := from.Clone()
	config.NextProtos = []string{http11}
	unselected := from.Clone()
	unselected.NextProtos = nil
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, http11) {
			return nil, nil
		}
		return unselected, nil
	}
	return config
}

// handshake starts TLS on the connection. Shutdown may close the underlying
// connection at any time.
func (c *conn) handshake() bool {
	first := &firstBytes{Stream: c.stream}
	t := tls.Server(first, c.listener.TLS)
	if t.SetDeadline(time.Now().Add(c.server.config.HandshakeTimeout)) != nil || c.evicted.Load() {
		return false
	}
	if err := t.Handshake(); err != nil {
		if errors.Is(err, errNotTLS) {
			c.refuseNotTLS(first.kept[:first.n])
			return false
		}
		c.server.config.Log.Debug("TLS handshake failed", "listener", c.listener.Name, "client_address", c.client.Addr(), "error", err)
		return false
	}
	if t.SetDeadline(time.Time{}) != nil {
		return false
	}
	c.server.mu.Lock()
	c.stream = t
	c.server.mu.Unlock()
	return true
}

// isCleartext reports whether the first bytes of a connection begin an HTTP
// request (a method, a space, a target) and not a TLS record, whose first byte is
// a control byte (RFC 8446 section 5.1).
func isCleartext(b []byte) bool {
	method, target, _ := bytes.Cut(b[:min(len(b), 5)], []byte{' '})
	if !isToken(method) || bytes.HasPrefix(target, []byte{' '}) {
		return false
	}
	for _, c := range target {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// rejectNotTLS reads the first bytes of a connection over the limit and answers a client
// that does not speak TLS. A TLS client gets no answer.
func (c *conn) rejectNotTLS() {
	if c.stream.SetReadDeadline(time.Now().Add(c.server.config.LingerTimeout)) != nil {
		return
	}
	first := firstBytes{Stream: c.stream}
	if _, err := first.Read(make([]byte, len(first.kept))); errors.Is(err, errNotTLS) {
		c.refuseNotTLS(first.kept[:first.n])
	}
}
