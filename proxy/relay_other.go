//go:build !linux

package proxy

import "net"

// carry moves bytes from src to dst until one of them is done.
func (t *tunnel) relay(dst, src net.Conn, d *meter) ending {
	return t.relayBuffered(dst, src, d)
}

// undelivered is known on Linux only.
func undelivered(*net.TCPConn) int { return 0 }

func closeIdlePipes() {}
