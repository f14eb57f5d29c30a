// Package listener serves the receivers of webhook deliveries over HTTP/1.1 and HTTP/2,
// within limits on connections, requests and memory.
//
// Everything that reaches it is unverified: a client without a secret costs at most one
// connection, one body in memory and one HMAC at a time, of a bounded number.
package listener

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/eviction"
	"github.com/sallyport/sallyport/internal/fair"
)

// The limits that are not configured.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = time.Minute
	// responseTimeout bounds a request from the end of its head to the end of its response.
	// Handlers with longer responses set a deadline of their own.
	responseTimeout = 30 * time.Second

	maxHeaderBytes = 16 << 10
	maxStreams     = 16 // of one HTTP/2 connection

	// bodyBytes bounds the memory of the bodies that are being received, of all addresses
	// and of one.
	bodyBytes          = 128 << 20
	bodyBytesPerClient = 32 << 20
)

// Config configures a [Server].
type Config struct {
	// Handlers answer requests by their path, which is matched exactly. Prefixes end in a
	// slash and match all paths below. Every other path gets 404.
	Handlers map[string]http.Handler
	Prefixes map[string]http.Handler
	// TLS is nil on a plain listener, which then has no HTTP/2. NextProtos is set here.
	TLS *tls.Config
	// ProxyProtocolFrom are the networks whose connections begin with a PROXY protocol
	// header.
	ProxyProtocolFrom []netip.Prefix
	// MaxConnections is how many clients may be connected at once; 0: 2000. Another one evicts
	// the oldest idle connection of the address with the most, or one with a request that is
	// not verified. MaxPerClient is how many connections one address may have (of IPv6, one
	// /64); 0: 200.
	MaxConnections, MaxPerClient int
	// Panicked is called with the value of a panic that no receiver recovered; nil: not.
	Panicked func(any)
	Log      *slog.Logger // nil: none
}

// Server serves one listening socket. It is safe for concurrent use.
type Server struct {
	config      Config
	http        *http.Server
	connections connections
	idle, busy  *eviction.Limiter // connections without and with requests in progress
	evict       func() bool       // makes room for a new connection
	bodies      *fair.Limiter
	badHeaders  atomic.Uint64
	unknown     atomic.Uint64
}

// New returns a server.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config:      c,
		connections: connections{max: cmp.Or(c.MaxConnections, 2000), perClient: cmp.Or(c.MaxPerClient, 200), clients: map[netip.Addr]int{}},
		bodies:      fair.New(fair.Config{Repository: fair.Limit{Bytes: bodyBytesPerClient}, Total: fair.Limit{Bytes: bodyBytes}}),
	}
	s.idle, s.busy, s.evict = eviction.New(0, 0), eviction.New(0, 0), s.evictOldest
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	if c.TLS != nil {
		protocols.SetHTTP2(true)
		c.TLS = c.TLS.Clone()
		c.TLS.NextProtos = nil // net/http sets them from Protocols
	}
	s.http = &http.Server{
		Handler: s, TLSConfig: c.TLS, Protocols: &protocols,
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, WriteTimeout: responseTimeout, MaxHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 64 << 10,
			SendPingTimeout: idleTimeout, WriteByteTimeout: responseTimeout,
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if secured, ok := c.(*tls.Conn); ok {
				c = secured.NetConn()
			}
			return context.WithValue(ctx, connKey{}, c)
		},
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// ConnectionClosed returns a channel that is closed when the connection of a request is, by
// the request's context. It is nil for a request of another server.
func ConnectionClosed(ctx context.Context) <-chan struct{} {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.done
	}
	return nil
}

// connKey is the key of a request's connection in its context, and requestKey that of the
// request.
type connKey struct{}
type requestKey struct{}

// Serve accepts connections until [Server.Shutdown], and then returns nil. Another error
// means that the listening socket was closed or shut down from outside.
func (s *Server) Serve(l net.Listener) error {
	var err error
	if s.config.TLS != nil {
		err = s.http.ServeTLS(countingListener{l, s}, "", "")
	} else {
		err = s.http.Serve(countingListener{l, s})
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting, lets requests in progress be answered, and returns when all
// are. When ctx is done first, it closes the remaining connections.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	return err
}

// ServeHTTP answers one request by its path. A panic of a handler ends only its request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == http.ErrAbortHandler {
			panic(p) // net/http ends the connection
		}
		if p != nil {
			if s.config.Panicked != nil {
				s.config.Panicked(p)
			}
			http.Error(w, "internal error", http.StatusInternalServerError)
		}
	}()
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.begins()
		state := &request{conn: c}
		defer func() { c.ends(state.verified) }()
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, state))
	}
	if h := s.handlerOf(r); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	s.unknown.Add(1)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, "not found\n")
}

// handlerOf returns the handler of a request's path, which has one spelling: an escaped
// form of it is another path.
func (s *Server) handlerOf(r *http.Request) http.Handler {
	if r.URL.RawPath != "" || r.URL.Host != "" {
		return nil
	}
	if h, ok := s.config.Handlers[r.URL.Path]; ok {
		return h
	}
	for prefix, h := range s.config.Prefixes {
		if len(r.URL.Path) > len(prefix) && r.URL.Path[:len(prefix)] == prefix {
			return h
		}
	}
	return nil
}

// Reserve accounts for memory of an address's bodies, until release is called.
func (s *Server) Reserve(client netip.Addr, bytes int64) (release func(), ok bool) {
	slot, err := s.bodies.TryAcquire(fair.Subject{Repository: host(client).String()}, bytes)
	if err != nil {
		return nil, false
	}
	return slot.Release, true
}

// refusedHeader counts a load balancer's connection without a valid PROXY protocol header.
// A connection that ends without a byte is a health check.
func (s *Server) refusedHeader(peer netip.Addr, err error) {
	if errors.Is(err, io.EOF) {
		return
	}
	if s.badHeaders.Add(1) == 1 {
		s.config.Log.Warn("connection refused", "listener", "webhooks.listener", "peer", peer, "error", err)
	}
}

// Stats are the figures of a server.
type Stats struct {
	Connections int    // open now
	Refused     uint64 // connections over a limit
	BadHeaders  uint64 // connections without a valid PROXY protocol header
	UnknownPath uint64 // requests to a path that no receiver has
}

// Stats returns the present figures.
func (s *Server) Stats() Stats {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	return Stats{Connections: s.connections.open, Refused: s.connections.refused, BadHeaders: s.badHeaders.Load(), UnknownPath: s.unknown.Load()}
}
