package frontend

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/fair"
)

// Server serves listeners. It is safe for concurrent use.
type Server struct {
	config  Config
	allowed map[string]bool // policy's request fields

	established [2][]byte // the answer to an admitted CONNECT, by the HTTP/1 minor version

	// context is the context of all requests: it ends when Shutdown stops waiting.
	context context.Context
	cancel  context.CancelFunc

	buffers   sync.Pool // of *buffer
	open      atomic.Int64
	rejecting atomic.Int64
	idle      idleLimiter
	longHeads *fair.Limiter      // the rate of heads of more than 16 KiB, by address
	heads     *fair.Limiter      // long heads whose step is not known yet, by address
	cleartext connectionWarnings // plain HTTP requests on TLS listeners
	notTLS    connectionWarnings // other protocols there

	reading     *fair.Limiter // steps that read their refusals
	denialsRead atomic.Uint64

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // those that are not tunnels
	quiet     chan struct{}      // closed and replaced when conns becomes empty
	routines  sync.WaitGroup
}

// Connections is the number of open client connections, tunnels included.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Idle returns the number of connections whose next head has not arrived.
func (s *Server) Idle() int {
	return s.idle.count()
}

// DenialsRead is how often a step has read its refusals.
func (s *Server) DenialsRead() uint64 { return s.denialsRead.Load() }

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// forget removes a connection from the list of those that Shutdown waits for.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.closing {
		close(s.quiet)
		s.quiet = make(chan struct{})
	}
}

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

// panicked logs and counts a panic. Its value may contain anything, also a request's
// bytes: only the runtime's own errors are logged.
func (s *Server) panicked(listener string, p any) {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	s.config.Log.Error("connection closed by a panic", slog.String("listener", listener),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	s.config.Observer.Panicked(listener)
}
