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

	"github.com/sallyport/sallyport/internal/eviction"
	"github.com/sallyport/sallyport/internal/fair"
)

// Server accepts clients' connections on listeners and serves them. It is safe for
// concurrent use.
type Server struct {
	config  Config
	allowed map[string]bool // request fields that a policy may read

	established [2][]byte // the response to an admitted CONNECT, by the HTTP/1 minor version

	// context is the parent of the contexts of all requests. It is canceled when Shutdown
	// stops waiting.
	context context.Context
	cancel  context.CancelFunc

	buffers   sync.Pool          // of *buffer
	serving   workers[*conn]     // the goroutines of connections
	tunneling workers[*handover] // those of tunnels, which need less memory
	open      atomic.Int64
	rejecting atomic.Int64
	idle      *eviction.Limiter  // the connections whose next head has not arrived
	longHeads *fair.Limiter      // the rate of heads of more than 16 KiB, by address
	heads     *fair.Limiter      // long heads whose step is not known yet, by address
	cleartext connectionWarnings // plain HTTP requests on TLS listeners
	notTLS    connectionWarnings // other protocols on TLS listeners

	reading       *fair.Limiter // requests for /step, by step
	checking      *fair.Limiter // network checks, by step
	downloads     *fair.Limiter // of builds of sallyport-step, by address
	stepReads     atomic.Uint64
	binariesSent  atomic.Uint64
	networkChecks atomic.Uint64

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // those that are not tunnels
	drained   chan struct{}      // closed and replaced when conns becomes empty
	routines  sync.WaitGroup
}

// Connections returns the number of open client connections, tunnels included.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Idle returns the number of connections whose next head has not arrived.
func (s *Server) Idle() int {
	return s.idle.Len()
}

// StepReads returns how often steps have read their requests or had targets evaluated.
func (s *Server) StepReads() uint64 { return s.stepReads.Load() }

// BinariesSent returns how many builds of sallyport-step, and digests of them, were sent.
func (s *Server) BinariesSent() uint64 { return s.binariesSent.Load() }

// NetworkChecks returns how many network checks of steps were recorded.
func (s *Server) NetworkChecks() uint64 { return s.networkChecks.Load() }

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// forget removes a connection from those that Shutdown waits for.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.closing {
		close(s.drained)
		s.drained = make(chan struct{})
	}
}

// waitDrained blocks until conns is empty. If ctx ends first, it returns context.Cause(ctx).
func (s *Server) waitDrained(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, drained := len(s.conns), s.drained
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-drained:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// panicked logs and counts a panic. A panic value may contain bytes of a request. Only the
// text of a runtime.Error is therefore logged; of any other value, only its type.
func (s *Server) panicked(listener string, p any) {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	s.config.Log.Error("connection closed by a panic", slog.String("listener", listener),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	s.config.Observer.Panicked(listener)
}
