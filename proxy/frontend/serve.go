package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// ListenerConfig describes a listener.
type ListenerConfig struct {
	Name string // in events, log lines and metrics
	// TLS, where it is not nil, is spoken on the listener. Of it, the certificate
	// (or GetCertificate) and the versions are used. ALPN selects http/1.1 or nothing.
	TLS *tls.Config
	// ProxyProtocolFrom are the networks whose connections begin with a PROXY
	// protocol header, which says who the client is. No others may send one.
	ProxyProtocolFrom []netip.Prefix
}

// Serve accepts connections until [Server.Shutdown], and then returns nil. If the
// listening socket is closed or shut down before, it returns an error; it continues
// after every other error of accept(2). It closes the listener. The connections that it accepts must be *net.TCPConn or
// have a CloseWrite method, and a *net.TCPAddr as their remote address. TCP
// keepalive and no-delay are the listener's, as [net.ListenConfig] sets them.
func (s *Server) Serve(l net.Listener, lc ListenerConfig) error {
	defer func() { _ = l.Close() }()
	if lc.TLS != nil {
		lc.TLS = listenerTLS(lc.TLS)
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.listeners[l] = struct{}{}
	s.routines.Add(1)
	s.mu.Unlock()
	defer s.routines.Done()

	var wait time.Duration
	for {
		accepted, err := l.Accept()
		if err == nil {
			wait = 0
			s.accept(accepted, &lc)
			continue
		}
		if s.isClosing() {
			return nil
		}
		if acceptsNoMore(err) {
			return fmt.Errorf("frontend: accept on listener %s: %w", lc.Name, err)
		}
		// Out of descriptors or the like: it passes, and a busy loop would make it worse.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.config.Log.Error("accept failed", "listener", lc.Name, "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-s.context.Done():
		}
	}
}

// acceptsNoMore reports whether err means that the listening socket itself is closed or
// shut down. accept(2) returns EINVAL for a socket that does not listen. Its other errors,
// those of the protocol and of the network among them, are of one connection or pass.
func acceptsNoMore(err error) bool {
	for _, end := range []error{net.ErrClosed, syscall.EINVAL, syscall.EBADF, syscall.ENOTSOCK} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// accept starts a connection's goroutine, or turns it away.
func (s *Server) accept(accepted net.Conn, lc *ListenerConfig) {
	stream, ok := accepted.(proxy.Stream)
	addr, isTCP := accepted.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		s.config.Log.Error("connection of an unknown kind", "listener", lc.Name, "type", fmt.Sprintf("%T", accepted))
		_ = accepted.Close()
		return
	}
	client := addr.AddrPort()
	client = netip.AddrPortFrom(client.Addr().Unmap().WithZone(""), client.Port())
	c := &conn{server: s, listener: lc, raw: stream, stream: stream, client: client}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = accepted.Close()
		return
	}
	s.routines.Add(1)
	if s.open.Add(1) > int64(s.config.MaxConnections) {
		s.mu.Unlock()
		s.rejectOverLimit(c)
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go s.run(c)
}

// maxRejecting is how many connections over the limit are answered at once. The
// others are closed without a word.
const maxRejecting = 64

// rejectOverLimit answers a connection over the limit without reading from it first.
func (s *Server) rejectOverLimit(c *conn) {
	s.config.Observer.Refused(c.listener.Name, policy.Overloaded)
	done := func() {
		_ = c.stream.Close()
		s.open.Add(-1)
		s.routines.Done()
	}
	if s.rejecting.Add(1) > maxRejecting {
		s.rejecting.Add(-1)
		done()
		return
	}
	go func() {
		defer s.rejecting.Add(-1)
		defer done()
		c.minor = 1
		if c.listener.TLS != nil {
			// An overloaded server spends no handshake on a refusal.
			c.rejectCleartext()
			return
		}
		c.answer(proxy.NewRefusal(policy.Overloaded, "this instance has as many connections as it may have"))
	}()
}

// run is a connection's goroutine.
func (s *Server) run(c *conn) {
	handed := false
	defer func() {
		if p := recover(); p != nil {
			s.panicked(c.listener.Name, p)
		}
		c.release()
		if handed {
			return
		}
		_ = c.stream.Close()
		s.forget(c)
		s.open.Add(-1)
		s.routines.Done()
	}()
	handed = c.serve()
}

// panicked notes a fault of ours. A panic's value may hold anything, a request's
// bytes among them: only the runtime's own errors are shown.
func (s *Server) panicked(listener string, p any) {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	s.config.Log.Error("connection closed by a panic", slog.String("listener", listener),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	s.config.Observer.Panicked(listener)
}

// handover is a connection that has become a tunnel.
type handover struct {
	admission *proxy.Admission
	listener  *ListenerConfig
	raw       proxy.Stream
	client    proxy.Stream
	early     []byte // what the client has sent already
	upstream  proxy.Stream
	inside    *inside // whose requests may come instead of TLS; nil: nobody's
	upgraded  bool    // the connection comes from a request that has become a tunnel
}

// tunnel runs the outcome of a connection. It has a goroutine of its own, so
// that the stack on which the decision was made, which is deep, is not kept for
// hours under an idle tunnel.
func (s *Server) tunnel(h *handover) {
	handed := false
	defer func() {
		if !handed {
			s.open.Add(-1)
			s.routines.Done()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(h.listener.Name, p)
			_ = h.client.Close()
			_ = h.upstream.Close()
			h.admission.Close(proxy.Outcome{Cause: proxy.CauseInternal})
		}
	}()
	if h.upgraded {
		s.config.Tracker.RunUpgraded(h.admission, h.client, h.early, h.upstream)
		return
	}
	// A tunnel that carries bytes never carries requests: nothing of a credential
	// is kept for it.
	begun := func() { h.inside = nil }
	if _, request := s.config.Tracker.RunConnect(h.admission, h.client, h.early, h.upstream, begun); request != nil && h.inside != nil {
		handed = s.serveInside(h, request)
	}
}

// forget takes a connection off the list of those that Shutdown waits for.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.closing {
		close(s.quiet)
		s.quiet = make(chan struct{})
	}
}

// Shutdown stops accepting, closes the connections that wait for a next request,
// lets requests in flight finish, then drains the tracker, and returns when no
// goroutine of the server is left. When ctx is done first, what is still open is
// closed, tunnels with the cause shutdown, and ctx's error is returned. Call
// [proxy.Gate.CloseAdmission] before it, so that nothing new is admitted
// meanwhile.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.closeIfIdle()
	}
	s.mu.Unlock()

	err := s.waitQuiet(ctx)
	if err != nil {
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.stream.Close()
		}
		s.mu.Unlock()
		_ = s.waitQuiet(context.Background())
	}
	gone := make(chan struct{})
	go func() { s.routines.Wait(); close(gone) }()
	for {
		if s.config.Tracker.Drain(ctx) > 0 && err == nil {
			err = context.Cause(ctx)
		}
		// A connection that was just handed on may not be with the tracker yet: it
		// is drained in the next round.
		select {
		case <-gone:
			return err
		case <-time.After(drainRound):
		}
	}
}

const drainRound = 20 * time.Millisecond

func (s *Server) waitQuiet(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, quiet := len(s.conns), s.quiet
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-quiet:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
