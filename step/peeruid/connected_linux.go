package peeruid

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// connected returns an error if an accepted socket has lost its connection: its peer may
// have reset it, and another process may have connected from the same port since.
func connected(c net.Conn) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%w: not a socket of the kernel", ErrUndetermined)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUndetermined, err)
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return fmt.Errorf("%w: %w", ErrUndetermined, err)
	}
	switch {
	case infoErr != nil:
		return fmt.Errorf("%w: %w", ErrUndetermined, infoErr)
	case info.State != established && info.State != closeWait:
		return fmt.Errorf("%w: its connection has ended", ErrUndetermined)
	}
	return nil
}
