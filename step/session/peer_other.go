//go:build !linux

package session

import (
	"errors"
	"net"
)

// admitOwner refuses every peer: only Linux is supported.
func admitOwner(*net.UnixConn) error {
	return errors.New("session: the peer's user cannot be determined on this system: use Linux")
}
