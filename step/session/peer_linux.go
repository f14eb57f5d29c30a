package session

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// admitOwner refuses a peer that is neither the process's user nor root, by the
// credentials that the kernel recorded when the connection was made (SO_PEERCRED,
// unix(7)). Both ends call it.
func admitOwner(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("session: read the peer's user: %w", err)
	}
	var peer *syscall.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		peer, optErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, optErr); err != nil {
		return fmt.Errorf("session: read the peer's user: %w", err)
	}
	return admitUser(peer.Uid, os.Geteuid())
}

func admitUser(peer uint32, own int) error {
	if peer != 0 && int(peer) != own {
		return fmt.Errorf("session: user %d may not use the session of user %d", peer, own)
	}
	return nil
}
