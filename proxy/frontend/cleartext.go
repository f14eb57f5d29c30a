package frontend

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// warningInterval is the least time between two warnings about clients that do not speak
// TLS on TLS listeners. Each connection is counted.
const warningInterval = time.Minute

// connectionWarnings bounds the warnings about one kind of connection.
type connectionWarnings struct {
	connections atomic.Int64 // since the server began
	warned      atomic.Int64 // Unix nanoseconds of the last warning
}

// warn counts a connection and logs a warning, at most once for each warningInterval.
func (w *connectionWarnings) warn(log *slog.Logger, message string, c *conn, fields ...any) {
	total := w.connections.Add(1)
	now, last := time.Now().UnixNano(), w.warned.Load()
	if last != 0 && now-last < int64(warningInterval) || !w.warned.CompareAndSwap(last, now) {
		return
	}
	fields = append(fields, "listener", c.listener.Name, "client_address", c.client.Addr(), "connections", total)
	log.Warn(message, fields...)
}

// firstBytes is a connection to a TLS listener. Its first read fails with errNotTLS if
// the client does not send a TLS record, even if fewer bytes arrived than a record's
// header has.
type firstBytes struct {
	proxy.Stream
	kept [8]byte
	n    int // of kept
}

var errNotTLS = errors.New("the first bytes are not a TLS record")

// NetConn returns the connection itself.
func (f *firstBytes) NetConn() net.Conn { return f.Stream }

func (f *firstBytes) Read(b []byte) (int, error) {
	n, err := f.Stream.Read(b)
	if f.n > 0 || n == 0 {
		return n, err
	}
	f.n = copy(f.kept[:], b[:n])
	// RFC 8446 section 5.1: change_cipher_spec, alert, handshake, application_data.
	if b[0] < 0x14 || b[0] > 0x17 {
		return 0, errNotTLS
	}
	return n, err
}

// refuseNotTLS answers a client that does not speak TLS in its own protocol, as far as
// that has an answer. Nothing is parsed: a credential that has crossed the network in
// cleartext is not used.
func (c *conn) refuseNotTLS(first []byte) {
	log := c.server.config.Log
	if isCleartext(first) {
		c.minor = 1
		c.server.cleartext.warn(log, "plain HTTP request on a TLS listener: its credential may have been exposed; correct http:// in the client's proxy URL to https://", c)
		c.refuseHere(proxy.NewRefusal(policy.TLSRequired, "this listener speaks TLS, and the request came in clear"))
		return
	}
	protocol, response := protocolOf(first)
	c.server.notTLS.warn(log, "connection without TLS on a TLS listener: this is an HTTP proxy; write https:// in the client's proxy URL", c, "protocol", protocol)
	c.server.config.Observer.Refused(c.listener.Name, policy.TLSRequired)
	if response == nil || c.stream.SetWriteDeadline(time.Now().Add(c.server.config.RefusalTimeout)) != nil {
		return
	}
	if _, err := c.stream.Write(response); err == nil {
		c.linger()
	}
}

// protocolOf names the protocol that the first bytes of a connection belong to, and
// returns its refusal, if there is one that a client expects.
func protocolOf(first []byte) (name string, refusal []byte) {
	switch {
	case first[0] == 5:
		return "SOCKS5", []byte{5, 0xff} // RFC 1928 section 3: no acceptable methods
	case first[0] == 4:
		return "SOCKS4", []byte{0, 91, 0, 0, 0, 0, 0, 0} // request rejected
	case bytes.HasPrefix(first, []byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}):
		return "PostgreSQL", nil // an SSLRequest; clients do not show an error that precedes TLS
	}
	return "unknown", nil
}
