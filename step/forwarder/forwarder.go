// Package forwarder is the proxy inside a build step. It serves HTTP and SOCKS 5 on
// loopback without credentials, admits only configured users, and sends every request to
// Sallyport with the step's token (package upstream).
//
// Requests are read by net/http. Its tolerance is harmless here: the tool and the token
// belong to one step, every request is written again in one form, and Sallyport reads that
// form strictly before it decides.
package forwarder

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/step/peeruid"
)

// New returns a forwarder without listeners.
func New(c Config) (*Forwarder, error) {
	if c.Upstream == nil || c.Admit == nil {
		return nil, errors.New("forwarder: Upstream and Admit are required")
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, 1024)
	c.MaxHeadBytes = cmp.Or(c.MaxHeadBytes, 64<<10)
	c.HeadTimeout = cmp.Or(c.HeadTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.HalfClosedTimeout = cmp.Or(c.HalfClosedTimeout, time.Minute)
	c.RememberFor = cmp.Or(c.RememberFor, 15*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Refused == nil {
		c.Refused = func(Refusal) {}
	}
	if c.peerUID == nil {
		c.peerUID = peeruid.Of
	}
	if c.ownAddress == nil {
		c.ownAddress = ownAddress
	}
	if c.final == nil {
		c.final = final
	}
	f := &Forwarder{
		config: c,
		queue:  newConnQueue(),
		slots:  make(chan struct{}, c.MaxConnections),
		// Containers that hold all of their connections must not keep the step's tools out.
		containerSlots: make(chan struct{}, max(c.MaxConnections/2, 1)),
		rejecting:      make(chan struct{}, maxRejecting),
		denied:         newDenials(c.RememberFor),
		stats:          newStatistics(),
		listeners:      make(map[net.Listener]struct{}),
		conns:          make(map[net.Conn]struct{}),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.server = &http.Server{
		Handler:                      f,
		ReadHeaderTimeout:            c.HeadTimeout,
		IdleTimeout:                  c.IdleTimeout,
		MaxHeaderBytes:               c.MaxHeadBytes,
		DisableGeneralOptionsHandler: true,
		ConnState:                    f.count,
		ErrorLog:                     slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	f.routines.Go(func() { _ = f.server.Serve(f.queue) })
	return f, nil
}

// Serve accepts connections of this machine's users until [Forwarder.Close], and then
// returns nil. Before it reads a byte of a connection, it determines the peer's user, and
// Config.Admit decides; a user that cannot be determined is not admitted. It closes the
// listener.
func (f *Forwarder) Serve(l net.Listener) error {
	return f.serve(l, f.slots, f.admitUser)
}

// ServeNetworks is Serve for clients in other network namespaces, such as containers,
// whose users cannot be determined: it admits every client with an address in one of the
// networks. A client with an address of this machine must have an admitted user besides.
func (f *Forwarder) ServeNetworks(l net.Listener, networks []netip.Prefix) error {
	return f.serve(l, f.containerSlots, func(c net.Conn) *Refusal { return f.admitNetwork(c, networks) })
}

// Close closes the listeners and all connections, and returns when no goroutine of the
// forwarder is left.
func (f *Forwarder) Close() {
	f.cancel()
	f.mu.Lock()
	f.closed = true
	for l := range f.listeners {
		_ = l.Close()
	}
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	_ = f.server.Close()
	f.routines.Wait()
}

// count lets Close wait for the connections of net/http, which does not.
func (f *Forwarder) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew: // while the goroutine of Serve is counted
		f.routines.Add(1)
	case http.StateClosed, http.StateHijacked:
		f.routines.Done()
	}
}

// ServeHTTP serves a request of a tool. net/http calls it.
func (f *Forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		panic(http.ErrAbortHandler) // closes the connection
	}
	f.routines.Add(1)
	f.mu.Unlock()
	defer f.routines.Done()
	if r.Method == http.MethodConnect {
		f.connect(w, r)
		return
	}
	f.request(w, r)
}

// Report returns a copy of the statistics.
func (f *Forwarder) Report() Report { return f.stats.report() }
