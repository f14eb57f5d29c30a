package peeruid

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// connected returns an error if an accepted socket has lost its connection: its peer may
// have reset it, and another process may have connected from the same port since.
func connected(c net.Conn) error {
	return control(c, func(fd int) error {
		state, err := tcpState(fd)
		switch {
		case err != nil:
			return err
		case state != established && state != closeWait:
			return errors.New("its connection has ended")
		}
		return nil
	})
}

// Abandoned reports whether the peer has ended a connection on which it sent nothing that
// is unread, such as a test of the port. It reads nothing from the connection.
func Abandoned(c net.Conn) bool {
	ended := false
	err := control(c, func(fd int) error {
		state, err := tcpState(fd)
		if err != nil {
			return err
		}
		unread, err := unix.IoctlGetInt(fd, unix.SIOCINQ) // without the FIN (tcp(7))
		ended = unread == 0 && state != established
		return err
	})
	return err == nil && ended
}

// control runs do with the descriptor of a socket. Its errors are ErrUndetermined.
func control(c net.Conn, do func(fd int) error) error {
	s, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%w: not a socket of the kernel", ErrUndetermined)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUndetermined, err)
	}
	var doErr error
	if err := errors.Join(raw.Control(func(fd uintptr) { doErr = do(int(fd)) }), doErr); err != nil {
		return fmt.Errorf("%w: %w", ErrUndetermined, err)
	}
	return nil
}

// tcpState returns the state of a socket (include/net/tcp_states.h).
func tcpState(fd int) (uint8, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	return info.State, nil
}
