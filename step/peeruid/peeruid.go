// Package peeruid determines which user of this machine opened a TCP connection over
// loopback. Linux has no SO_PEERCRED for TCP (unix(7)); the kernel's socket table has the
// user of the peer's socket (sock_diag(7), /proc/net/tcp).
//
// The answer is that of the connection that was accepted. While the accepted socket is
// connected, the kernel establishes no other connection with the same four addresses and
// ports. A peer that resets its connection frees them, and what it sent before remains
// readable: an accepted socket that is not connected after the lookup is an error here.
// A socket that its process has closed already has no user any more, and the kernel
// reports the user 0 (root) for it: such a socket is an error, and so is each state in
// which another process could try to connect from the same port.
package peeruid

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrUndetermined means that the peer's user is not known. The peer may be in another
// network namespace, or have closed its socket.
var ErrUndetermined = errors.New("the user of the peer's socket cannot be determined")

// Of returns the user at the other end of a connection that was accepted. It reads nothing
// from the connection. Every error means that the user is not known.
func Of(c net.Conn) (uid uint32, err error) {
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return 0, fmt.Errorf("%w: not a TCP connection", ErrUndetermined)
	}
	if uid, err = lookup(unmapped(peer), unmapped(local)); err != nil {
		return 0, err
	}
	// In this order: the socket was connected during the lookup, too.
	if err := connected(c); err != nil {
		return 0, err
	}
	return uid, nil
}

// unmapped returns an address without zone, and as IPv4 if it is IPv4 in IPv6.
func unmapped(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// entry is one row of the kernel's socket table.
type entry struct {
	local, remote netip.AddrPort
	state         uint8
	uid           uint32
	inode         uint32
}

// The states of TCP (include/net/tcp_states.h) in which a socket has completed the
// handshake and can still belong to a process that sends or reads.
const (
	established = 1
	finWait1    = 4
	finWait2    = 5
	closeWait   = 8 // of the accepted socket: the peer has ended its direction
)

// user returns the user of a row, which must be the socket of the peer.
func (e entry) user(peer, local netip.AddrPort) (uint32, error) {
	switch {
	case e.local != peer || e.remote != local:
		return 0, fmt.Errorf("%w: the kernel returned another socket", ErrUndetermined)
	case e.inode == 0:
		return 0, fmt.Errorf("%w: its process closed it", ErrUndetermined)
	case e.state != established && e.state != finWait1 && e.state != finWait2:
		return 0, fmt.Errorf("%w: its state is %d", ErrUndetermined, e.state)
	}
	return e.uid, nil
}
