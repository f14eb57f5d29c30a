package systemd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstDescriptor is the first inherited descriptor, SD_LISTEN_FDS_START of
// sd_listen_fds(3).
const firstDescriptor = 3

// maxSockets bounds LISTEN_FDS: more would be a mistake, and closing so many descriptors
// another.
const maxSockets = 1024

// Socket is a listening socket that the service manager opened and keeps open: closing
// it in this process refuses no connection. The connections in its queue are for the
// next process that inherits it.
type Socket struct {
	*net.TCPListener
	Descriptor int
	Name       string // from the socket's unit, for messages

	claimed bool
}

// Sockets are the inherited sockets. They must not be used concurrently.
type Sockets []*Socket

// Inherit returns the sockets that sd_listen_fds(3) describes, none if the description
// is for another process. The variables and the descriptors are not passed on to child
// processes. After an error no socket is open.
func Inherit() (Sockets, error) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	// Another PID: a parent process passed its environment on.
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	listed, err := socketNames(fds, names)
	if err != nil {
		return nil, err
	}
	var sockets Sockets
	for i, name := range listed {
		s, err := inherit(firstDescriptor+i, name)
		if err != nil {
			sockets.Close()
			return nil, err
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// socketNames reads LISTEN_FDS and LISTEN_FDNAMES: one name, which may be empty, for
// each descriptor.
func socketNames(fds, names string) ([]string, error) {
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("LISTEN_FDS is %q: it has to be the number of sockets that this process was started with", fds)
	}
	if names == "" {
		return make([]string, n), nil
	}
	listed := strings.Split(names, ":")
	if len(listed) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES %q has %d names for %d sockets", names, len(listed), n)
	}
	return listed, nil
}

func inherit(fd int, name string) (*Socket, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), name)
	l, err := net.FileListener(file) // with a descriptor of its own
	err = errors.Join(err, file.Close())
	if err != nil {
		return nil, fmt.Errorf("inherited descriptor %d %q is not a listening socket: %w; pass on listening TCP sockets only (ListenStream= of a socket unit, Accept=no)", fd, name, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("inherited descriptor %d %q listens on %s %s: pass on TCP sockets only", fd, name, l.Addr().Network(), l.Addr())
	}
	return &Socket{TCPListener: tcp, Descriptor: fd, Name: name}, nil
}

// Claim returns the socket that is bound to a configured host:port, once; nil if there
// is none. An empty host is every address of the machine.
func (s Sockets) Claim(address string) *Socket {
	for _, socket := range s {
		if !socket.claimed && isBoundTo(socket.Addr().(*net.TCPAddr).AddrPort(), address) {
			socket.claimed = true
			return socket
		}
	}
	return nil
}

// Unclaimed returns the first socket that was not claimed; nil if there is none.
// Connections to such a socket would wait forever.
func (s Sockets) Unclaimed() *Socket {
	for _, socket := range s {
		if !socket.claimed {
			return socket
		}
	}
	return nil
}

// Close closes the sockets in this process.
func (s Sockets) Close() {
	for _, socket := range s {
		_ = socket.Close()
	}
}

// isBoundTo reports whether a socket's address is the one that is configured.
func isBoundTo(socket netip.AddrPort, configured string) bool {
	host, port, err := net.SplitHostPort(configured)
	if err != nil || port != strconv.Itoa(int(socket.Port())) {
		return false
	}
	if host == "" {
		return socket.Addr().IsUnspecified()
	}
	want, err := netip.ParseAddr(host)
	return err == nil && want.Unmap() == socket.Addr().Unmap()
}
