//go:build !linux

package peeruid

import (
	"fmt"
	"net/netip"
	"runtime"
)

func lookup(netip.AddrPort, netip.AddrPort) (uint32, error) {
	return 0, fmt.Errorf("%w on %s", ErrUndetermined, runtime.GOOS)
}
