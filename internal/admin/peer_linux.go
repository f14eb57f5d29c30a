package admin

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peerOf returns the user and process at the other end, as they were when it
// connected (SO_PEERCRED, unix(7)).
func peerOf(conn net.Conn) (Operator, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Operator{}, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Operator{}, err
	}
	var credentials *unix.Ucred
	var optionErr error
	if err := raw.Control(func(fd uintptr) {
		credentials, optionErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Operator{}, err
	}
	if optionErr != nil {
		return Operator{}, fmt.Errorf("SO_PEERCRED: %w", optionErr)
	}
	o := Operator{UID: credentials.Uid, PID: credentials.Pid}
	if found, err := user.LookupId(strconv.FormatUint(uint64(o.UID), 10)); err == nil {
		o.Name = found.Username
	}
	return o, nil
}
