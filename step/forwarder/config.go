package forwarder

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// Upstream sends requests to Sallyport: [upstream.Client].
type Upstream interface {
	// Connect opens a tunnel; see [upstream.Client.Connect].
	Connect(ctx context.Context, target string) (upstream.Stream, *upstream.Refusal, error)
	// RoundTrip sends an absolute-form request; see [upstream.Client.RoundTrip].
	http.RoundTripper
}

// Config configures a [Forwarder]. Upstream and Admit are required.
type Config struct {
	Upstream Upstream
	// Admit reports whether a user of this machine may use the forwarder; see [Users].
	Admit func(uid uint32) bool
	// Refused is called for each refusal when it happens, except for repeats of a
	// remembered one. It must not block and must be safe for concurrent use; see
	// [Refusal.Line]. nil: none.
	Refused func(Refusal)
	Log     *slog.Logger // nil: none

	MaxConnections int           // open at once, tunnels included; half as many more for containers; 0: 1024
	MaxHeadBytes   int           // of one request; 0: 64 KiB
	HeadTimeout    time.Duration // for a head from its first byte, and a SOCKS request; 0: 30 s
	IdleTimeout    time.Duration // for the first byte of a connection or of its next request; 0: 2 min
	// HalfClosedTimeout is how long a request whose tool has ended its direction waits for
	// the head of the response; 0: 1 min.
	HalfClosedTimeout time.Duration
	RememberFor       time.Duration // how long a denial, or the refusal of an expired token, is repeated without a request to Sallyport; 0: 15 s; negative: not at all

	// Only tests change these controls.
	peerUID    func(net.Conn) (uint32, error)            // nil: peeruid.Of
	ownAddress func(netip.Addr) bool                     // nil: ownAddress
	final      func(*upstream.Refusal) *upstream.Refusal // nil: final
}

// Forwarder serves listeners. It is safe for concurrent use.
type Forwarder struct {
	config Config
	server *http.Server
	queue  *connQueue    // connections that speak HTTP
	slots  chan struct{} // of this machine's users
	// containerSlots bounds the connections of the listeners for containers.
	containerSlots chan struct{}
	// rejecting bounds the connections that are answered without a slot.
	rejecting chan struct{}
	denied    *denials
	stats     *statistics

	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]struct{} // that net/http does not close
	routines  sync.WaitGroup
}

// track registers a connection that Close has to close; false: the forwarder is closed.
func (f *Forwarder) track(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *Forwarder) forget(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// refused counts a refusal, and reports it unless it is a repeat.
func (f *Forwarder) refused(r Refusal) {
	r.Time = time.Now()
	if f.stats.refused(r) {
		f.config.Refused(r)
	}
}

// takeOver takes a connection from net/http, and returns it with net/http's reader. The
// transport may still be reading the request's content from this reader. takeOver returns
// nil if the connection or the forwarder has ended. Call end when the connection has been
// used.
func (f *Forwarder) takeOver(w http.ResponseWriter) (t *toolConn, r *bufio.Reader) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil
	}
	t, ok := c.(*toolConn)
	if !ok || !f.track(t) {
		_ = c.Close()
		return nil, nil
	}
	return t, rw.Reader
}

// end closes a connection.
func (f *Forwarder) end(t *toolConn) {
	f.forget(t)
	_ = t.Close()
}
