package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/certificate"
	"github.com/sallyport/sallyport/internal/systemd"
	"github.com/sallyport/sallyport/proxy/frontend"
)

// inherit takes over the sockets that the service manager passes on.
func (s *server) inherit(context.Context) (err error) {
	if s.inherited, err = systemd.Inherit(); err != nil {
		return err
	}
	s.atClose(s.inherited.Close)
	return nil
}

// listen binds every listener, so that an address in use or a missing right is reported
// before a database is started, and so that the guard knows our own ports.
func (s *server) listen(context.Context) error {
	for _, c := range s.config.Listeners {
		lc := frontend.ListenerConfig{Name: c.Address, ProxyProtocolFrom: c.ProxyProtocolFrom}
		if c.TLS != nil {
			loaded, err := certificate.Load(c.TLS.CertificateFile, c.TLS.KeyFile, s.log)
			if err != nil {
				return err
			}
			lc.TLS = loaded.TLSConfig()
		}
		l, err := s.bind(c.Address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w; choose another address under listeners, or end what has it", c.Address, err)
		}
		s.atClose(func() { _ = l.Close() })
		s.listeners = append(s.listeners, listening{l, lc, make(chan struct{})})
	}
	if s.config.Admin.Address == "" {
		return nil
	}
	l, err := s.bind(s.config.Admin.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another admin.address, or end what has it", s.config.Admin.Address, err)
	}
	s.atClose(func() { _ = l.Close() })
	s.adminAt = l
	return nil
}

// bind returns the inherited socket that is bound to a configured address, or binds the
// address.
func (s *server) bind(address string) (net.Listener, error) {
	if l := s.inherited.Claim(address); l != nil {
		s.log.Info("listening socket inherited", "address", address, "descriptor", l.Descriptor, "name", l.Name)
		return l, nil
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

// claimAll fails if a socket was inherited that is not configured.
func (s *server) claimAll(context.Context) error {
	if l := s.inherited.Unclaimed(); l != nil {
		return fmt.Errorf("inherited descriptor %d %q is bound to %s, which is not (or not a second time) in listeners[].address, webhooks.listener.address or admin.address: configure it there, or take it out of the socket unit",
			l.Descriptor, l.Name, l.Addr())
	}
	return nil
}

// own returns the addresses that this instance listens on, which no client may reach
// through it.
func (s *server) own() []netip.AddrPort {
	var own []netip.AddrPort
	for _, l := range s.listeners {
		own = append(own, l.Addr().(*net.TCPAddr).AddrPort())
	}
	if s.webhooksAt != nil {
		own = append(own, s.webhooksAt.Addr().(*net.TCPAddr).AddrPort())
	}
	if s.adminAt != nil {
		own = append(own, s.adminAt.Addr().(*net.TCPAddr).AddrPort())
	}
	return own
}

// handOver leaves the inherited sockets to the next process, and reports whether
// there were any. When it returns, this process accepts nothing more from them, and the
// gate knows of every connection that it has accepted. /readyz and /metrics are the next
// process's from then on.
func (s *server) handOver() bool {
	for _, l := range s.listeners {
		if _, ok := l.Listener.(*systemd.Socket); ok {
			_ = l.Close()
			<-l.served
		}
	}
	if _, ok := s.adminAt.(*systemd.Socket); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.admin.Close(ctx)
	}
	return len(s.inherited) > 0
}
