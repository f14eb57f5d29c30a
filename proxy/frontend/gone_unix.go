//go:build unix

package frontend

import (
	"net"
	"syscall"

	"github.com/sallyport/sallyport/proxy"
)

// isClosed reports whether the client has closed its connection, so that no tunnel is
// opened for it. It does not wait and consumes no byte. Over TLS the result is always
// false.
func isClosed(stream proxy.Stream) bool {
	tcp, ok := stream.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err == nil && n == 0 || err == syscall.ECONNRESET
	})
	return closed || err != nil
}
