// Package frontend serves the listeners: it reads HTTP/1 requests from connections,
// strictly and within bounds, passes each to the gate, answers refusals, opens
// tunnels and passes absolute-form requests to a [Forwarder].
//
// A request never passes through net/http on its way in. Its server repairs what
// this proxy has to refuse (bare line feeds, a CONNECT's path or user
// information, doubled fields), keeps buffers for the life of a tunnel, and
// decides by itself when a connection continues. Here one head has one meaning,
// or none: what RFC 9112 does not allow is refused, and so is most of what it
// allows a lenient recipient to repair.
package frontend

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Forwarder sends one admitted absolute-form request to its target.
//
// r is built again from what was admitted: URL and Host are the admission's
// canonical target, the hop-by-hop fields are gone, and so are all Proxy-
// fields; Via is in place. Forward writes the answer to w, ends the admission
// with exactly one [proxy.Admission.Close] whatever happens, and reads neither
// r.Body nor touches w after it has returned. It must send the request at most
// once, and only to an address that the admission has pinned. It is called from
// many goroutines.
//
// Where r has an Upgrade field, the client asks for that protocol, and r is a
// handshake without content. Upgrade then ends Forward's part, if it returns
// true: the connection and the admission belong to w, which relays under the
// limits of a tunnel and closes both.
type Forwarder interface {
	Forward(w proxy.ResponseWriter, r *http.Request, a *proxy.Admission)
}

// Observer is told what never reached the gate, to count it. Its methods must
// not block and must be safe for concurrent use.
type Observer interface {
	// Refused is called for each refusal that the gate knows nothing of.
	Refused(listener string, reason policy.Reason)
	// Panicked is called when a fault of ours ended a connection.
	Panicked(listener string)
}

// Config is what a server is made of. Gate, Tracker and Forwarder are required;
// a zero field of the rest takes the value that its comment names.
type Config struct {
	Gate      *proxy.Gate
	Tracker   *proxy.Tracker
	Forwarder Forwarder

	// Denials answers GET /denials, for those whom Authenticator, which is the
	// gate's, knows as a step. Both nil: there is no such resource.
	Denials       Denials
	Authenticator proxy.Authenticator

	Log      *slog.Logger // nil: none
	Observer Observer     // nil: none

	// Name is this proxy's name in Proxy-Status (RFC 9209); "": sallyport.
	Name string
	// Pseudonym is this instance in Via, by which it knows a request that comes
	// back to it (RFC 9110 section 7.6.3). It must be its own; "": the name and a
	// random part.
	Pseudonym string

	// Headers are the lower-case names of the request fields that policy may
	// read. Those that carry credentials or cookies are refused by [New].
	Headers []string

	MaxHeadBytes     int // request line and fields; 0: 32 KiB; at least 20 KiB, for a 16 KiB credential
	MaxConnections   int // open at once, tunnels included; 0: 20,000
	MaxIdle          int // of these, without a request so far; 0: half of them
	MaxIdlePerClient int // of these, of one address; 0: 1,000

	// HeadBytes and HeadBytesPerClient bound the memory of request heads of more than
	// 4 KiB whose step is not known yet: in total and of one address. 0: no limit.
	HeadBytes, HeadBytesPerClient int64
	longHeads                     *fair.Config // nil: longHeadRate

	HeadTimeout      time.Duration // for a head, from its first byte or the connection's start; 0: 10 s
	HandshakeTimeout time.Duration // for TLS; 0: 10 s
	IdleTimeout      time.Duration // between two requests of a connection; 0: 1 min
	BodyTimeout      time.Duration // for each read of a request's body; 0: 1 min
	WriteTimeout     time.Duration // for each write of an answer; 0: 1 min
	RefusalTimeout   time.Duration // to write a refusal; 0: 5 s
	ThrottleDelay    time.Duration // before a refusal of a client that is refused too often; 0: 1 s
	LingerTimeout    time.Duration // for the client to read a refusal before the connection goes; 0: 1 s
}

// Server serves listeners. It is safe for concurrent use.
type Server struct {
	config  Config
	allowed map[string]bool // policy's request fields

	established [2][]byte // the answer to an admitted CONNECT, by the HTTP/1 minor version

	// context is what requests run under: it ends when Shutdown gives up waiting.
	context context.Context
	cancel  context.CancelFunc

	buffers   sync.Pool // of *buffer
	open      atomic.Int64
	rejecting atomic.Int64
	idle      idleLimiter
	longHeads *fair.Limiter // the rate of heads of more than 16 KiB, by address
	heads     *fair.Limiter // long heads whose step is not known yet, by address
	cleartext cleartext

	reading     *fair.Limiter // steps that read their refusals
	denialsRead atomic.Uint64

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{} // those that are not tunnels
	quiet     chan struct{}      // closed and replaced when conns becomes empty
	routines  sync.WaitGroup
}

// never are the request fields that policy does not see, whatever is configured.
var never = []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}

// New returns a server without listeners, or an error that names what is missing.
func New(c Config) (*Server, error) {
	switch {
	case c.Gate == nil:
		return nil, errors.New("frontend: a server needs a Gate")
	case c.Tracker == nil:
		return nil, errors.New("frontend: a server needs a Tracker")
	case c.Forwarder == nil:
		return nil, errors.New("frontend: a server needs a Forwarder")
	case (c.Denials == nil) != (c.Authenticator == nil):
		return nil, errors.New("frontend: Denials and Authenticator are given together or not at all")
	}
	c = c.withDefaults()
	if c.MaxHeadBytes < identity.MaxCredentialBytes+4<<10 {
		return nil, fmt.Errorf("frontend: a head of %d bytes cannot hold a credential of %d: allow at least %d",
			c.MaxHeadBytes, identity.MaxCredentialBytes, identity.MaxCredentialBytes+4<<10)
	}
	for _, name := range []string{c.Name, c.Pseudonym} {
		if !isToken([]byte(name)) {
			return nil, fmt.Errorf("frontend: the name %q is not a token of letters, digits and hyphens", name)
		}
	}
	s := &Server{
		config:    c,
		allowed:   make(map[string]bool, len(c.Headers)),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		quiet:     make(chan struct{}),
		reading:   fair.New(denialReads),
		heads:     headShares(&c),
		longHeads: fair.New(*c.longHeads),
		idle:      idleLimiter{max: c.MaxIdle, maxPerClient: c.MaxIdlePerClient, clients: make(map[netip.Addr]*clientConns)},
	}
	for _, name := range c.Headers {
		name = strings.ToLower(name)
		if !isToken([]byte(name)) {
			return nil, fmt.Errorf("frontend: %q is not the name of a header field", name)
		}
		for _, secret := range never {
			if name == secret {
				return nil, fmt.Errorf("frontend: header field %q carries secrets, and policy's input is stored: leave it out", name)
			}
		}
		s.allowed[http.CanonicalHeaderKey(name)] = true
	}
	for minor := range s.established {
		s.established[minor] = establishedAnswer(minor, c.Name)
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.buffers.New = func() any { return &buffer{b: make([]byte, firstBuffer)} }
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = ignore{}
	}
	c.Name = cmp.Or(c.Name, "sallyport")
	if c.Pseudonym == "" {
		var b [5]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
		c.Pseudonym = c.Name + "-" + hex.EncodeToString(b[:])
	}
	c.MaxHeadBytes = cmp.Or(c.MaxHeadBytes, 32<<10)
	c.MaxConnections = cmp.Or(c.MaxConnections, 20_000)
	c.MaxIdle = cmp.Or(c.MaxIdle, max(1, c.MaxConnections/2))
	c.longHeads = cmp.Or(c.longHeads, &longHeadRate)
	c.MaxIdlePerClient = cmp.Or(c.MaxIdlePerClient, 1000)
	c.HeadTimeout = cmp.Or(c.HeadTimeout, 10*time.Second)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, time.Minute)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, time.Minute)
	c.RefusalTimeout = cmp.Or(c.RefusalTimeout, 5*time.Second)
	c.ThrottleDelay = cmp.Or(c.ThrottleDelay, time.Second)
	c.LingerTimeout = cmp.Or(c.LingerTimeout, time.Second)
	return c
}

// Connections is the number of open client connections, tunnels included.
func (s *Server) Connections() int { return int(s.open.Load()) }

type ignore struct{}

func (ignore) Refused(string, policy.Reason) {}
func (ignore) Panicked(string)               {}
