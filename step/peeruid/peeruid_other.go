//go:build !linux

package peeruid

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
)

func connected(net.Conn) error {
	return fmt.Errorf("%w on %s", ErrUndetermined, runtime.GOOS)
}

func lookup(netip.AddrPort, netip.AddrPort) (uint32, error) {
	return 0, fmt.Errorf("%w on %s", ErrUndetermined, runtime.GOOS)
}

// Abandoned is false: only Linux is supported.
func Abandoned(net.Conn) bool { return false }
