package proxy

import (
	"crypto/tls"
	"net"
)

// Stream is the client's side of a tunnel: a connection that can be half-closed.
// *net.TCPConn and *tls.Conn are streams.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// tcpOf finds the TCP connection below a client's stream, nil if there is none.
func tcpOf(s net.Conn) *net.TCPConn {
	switch c := s.(type) {
	case *net.TCPConn:
		return c
	case *tls.Conn:
		return tcpOf(c.NetConn())
	case interface{ NetConn() net.Conn }:
		return tcpOf(c.NetConn())
	}
	return nil
}
