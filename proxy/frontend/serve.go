package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Serve accepts connections until [Server.Shutdown], and then returns nil. If the
// listening socket is closed or shut down before, it returns an error; it continues
// after every other error of accept(2). It closes the listener. The connections that it
// accepts must be *net.TCPConn or have a CloseWrite method, and a *net.TCPAddr as their
// remote address. TCP keepalive and no-delay are the listener's, as [net.ListenConfig]
// sets them.
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
		// A lack of descriptors or the like passes, and a busy loop would make it worse.
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

// accept starts a connection's goroutine, or rejects the connection over the limit.
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
	s.routines.Add(1)
	if open := s.open.Add(1); s.closing || open > int64(s.config.MaxConnections) {
		closing := s.closing
		s.mu.Unlock()
		if closing {
			s.reject(c, proxy.NewRefusal(policy.ShuttingDown, "this instance is shutting down"))
		} else {
			s.reject(c, proxy.NewRefusal(policy.Overloaded, "this instance has as many connections as it may have"))
		}
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.serving.start(s.run, c)
}

// maxRejecting is how many connections over the limit are answered at once. The others
// are closed without an answer.
const maxRejecting = 64

// reject answers a connection that is not served, without reading from it first.
func (s *Server) reject(c *conn, r *proxy.Refusal) {
	s.config.Observer.Refused(c.listener.Name, r.Reason)
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
			c.rejectNotTLS()
			return
		}
		c.answer(r)
	}()
}

// run serves a connection, on a goroutine of its own until it returns.
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
	if tunnel := c.serve(); tunnel != nil {
		c.becomeTunnel(tunnel)
		handed = true
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
	defer s.serving.close()
	defer s.tunneling.close()
	s.mu.Lock()
	s.closing = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.closeIfIdle()
	}
	s.mu.Unlock()

	err := s.waitDrained(ctx)
	if err != nil {
		s.cancel()
		s.endConnections()
		s.mu.Lock()
		for c := range s.conns {
			_ = c.stream.Close()
		}
		s.mu.Unlock()
		_ = s.waitDrained(context.Background())
	}
	closed := make(chan struct{})
	go func() { s.routines.Wait(); close(closed) }()
	for {
		if s.config.Tracker.Drain(ctx) > 0 && err == nil {
			err = context.Cause(ctx)
		}
		// A connection that has just become a tunnel may not be in the tracker yet: it is
		// drained in the next round.
		select {
		case <-closed:
			return err
		case <-time.After(drainRound):
		}
	}
}

// endConnections lets what is in progress answer before its connection is closed: the
// context of all requests is canceled, and what reads a head stops.
func (s *Server) endConnections() {
	s.mu.Lock()
	for c := range s.conns {
		c.Evict()
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.LingerTimeout)
	defer cancel()
	_ = s.waitDrained(ctx)
}

const drainRound = 20 * time.Millisecond
