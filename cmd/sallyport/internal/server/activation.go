package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// firstInherited is the first descriptor that a service manager passes on,
// SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstInherited = 3

// inherited is a listening socket that whoever started this process has opened,
// and keeps open: closing it here refuses no connection. What is in its queue is
// for the next process that is given it.
type inherited struct {
	*net.TCPListener
	fd      int
	name    string // what the socket's unit calls it, for messages
	claimed bool
}

// inherit takes over the sockets that sd_listen_fds(3) describes. Descriptors
// and variables are kept from the programs that this one starts.
func (s *server) inherit(context.Context) error {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	// Meant for another process: for a parent that passes its environment on.
	if pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	listed, err := inheritedNames(fds, names)
	if err != nil {
		return err
	}
	for i, name := range listed {
		l, err := inheritListener(firstInherited+i, name)
		if err != nil {
			return err
		}
		s.atClose(func() { _ = l.Close() })
		s.inherited = append(s.inherited, l)
	}
	return nil
}

// inheritedNames reads LISTEN_FDS and LISTEN_FDNAMES: one name, which may be
// empty, for each descriptor.
func inheritedNames(fds, names string) ([]string, error) {
	const most = 1024 // more would be a mistake, and closing so many another
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > most {
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

func inheritListener(fd int, name string) (*inherited, error) {
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
	return &inherited{TCPListener: tcp, fd: fd, name: name}, nil
}

// bind gives the inherited socket that is bound to a configured address, or
// binds it.
func (s *server) bind(address string) (net.Listener, error) {
	for _, l := range s.inherited {
		if !l.claimed && bound(l.Addr().(*net.TCPAddr).AddrPort(), address) {
			l.claimed = true
			s.log.Info("listening socket inherited", "address", address, "descriptor", l.fd, "name", l.name)
			return l, nil
		}
	}
	return listenConfig.Listen(context.Background(), "tcp", address)
}

// listenConfig leaves keepalive to the listening socket, from which connections
// inherit it (tcp(7)): the library would set it again on each, with four calls.
var listenConfig = net.ListenConfig{
	KeepAlive: -1,
	Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = keepAlive(int(fd))
		})
		return errors.Join(err, failed)
	},
}

// bound reports whether a socket's address is what a configured one asks for:
// :port is every address of the machine, however the socket says that.
func bound(socket netip.AddrPort, configured string) bool {
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

// claimAll fails if a socket was inherited that no key asks for: connections
// would wait there forever.
func (s *server) claimAll(context.Context) error {
	for _, l := range s.inherited {
		if !l.claimed {
			return fmt.Errorf("inherited descriptor %d %q is bound to %s, which is not (or not a second time) in listeners[].address or admin.address: configure it there, or take it out of the socket unit",
				l.fd, l.name, l.Addr())
		}
	}
	return nil
}

// handOver leaves the inherited sockets to the next process, and reports whether
// there were any. When it returns, this process accepts nothing more from them, and the
// gate knows of every connection that it has accepted. /readyz and /metrics are the next
// process's from then on.
func (s *server) handOver() bool {
	for _, l := range s.listeners {
		if _, ok := l.Listener.(*inherited); ok {
			_ = l.Close()
			<-l.served
		}
	}
	if _, ok := s.adminAt.(*inherited); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.admin.Close(ctx)
	}
	return len(s.inherited) > 0
}
