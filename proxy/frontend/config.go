package frontend

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/internal/stepbinaries"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Forwarder sends one admitted absolute-form request to its target.
//
// r is made from the admission: URL and Host are the admission's canonical target; it has
// no hop-by-hop field and no Proxy- field, and it has Via. Forward writes the response to
// w, ends the admission with exactly one [proxy.Admission.Close] in every case, and does
// not use r.Body or w after it has returned. It must send the request at most once, and
// only to an address that the admission has pinned. It is called from many goroutines.
//
// If r has an Upgrade field, the client requests that protocol, and r is a handshake
// without content. If w.Upgrade returns true, the connection and the admission belong to
// w, which relays under the limits of a tunnel and closes both.
type Forwarder interface {
	Forward(w proxy.ResponseWriter, r *http.Request, a *proxy.Admission)
}

// Observer counts what never reached the gate. Its methods must not block and must be
// safe for concurrent use.
type Observer interface {
	// Refused is called for each refusal that did not come from the gate.
	Refused(listener string, reason policy.Reason)
	// Panicked is called when a panic ended a connection.
	Panicked(listener string)
}

// Steps reads what the audit log has on a step.
//
// It returns refusals and forced closes of the principal's own step, at most limit, then
// targets with allowed requests, at most limit, the newest first in each, and counts: none
// of another step. The step is the principal's, and never one that a client names. An entry
// has no Next. An error means that the log cannot be read at the moment. It must be safe for
// concurrent use and bound its own time.
type Steps interface {
	Step(ctx context.Context, p *identity.Principal, limit int) ([]stepapi.Entry, stepapi.Requests, error)
}

// Config configures a server. Gate, Tracker and Forwarder are required; another field
// that is zero has the default that its comment names.
type Config struct {
	Gate      *proxy.Gate
	Tracker   *proxy.Tracker
	Forwarder Forwarder

	// Steps answers GET /step for clients that Authenticator, which is the gate's, verifies
	// as a step. Both nil: the resources of steps do not exist.
	Steps         Steps
	Authenticator proxy.Authenticator

	// Binaries has the builds of sallyport-step that clients may download; nil: none.
	Binaries *stepbinaries.Directory

	Log      *slog.Logger // nil: none
	Observer Observer     // nil: none

	// Name is this proxy's name in Proxy-Status (RFC 9209); "": sallyport.
	Name string
	// Pseudonym names this instance in Via, by which it detects a request that it has
	// forwarded before (RFC 9110 section 7.6.3). It must be unique; "": the name and a
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
	LingerTimeout    time.Duration // for the client to read a refusal before the connection is closed; 0: 1 s
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

// ListenerConfig describes a listener.
type ListenerConfig struct {
	Name string // in events, log lines and metrics
	// TLS, where it is not nil, is spoken on the listener. Of it, the certificate
	// (or GetCertificate) and the versions are used. ALPN selects http/1.1 or nothing.
	TLS *tls.Config
	// ProxyProtocolFrom are the networks whose connections begin with a PROXY protocol
	// header, which has the client's address. No others may send one.
	ProxyProtocolFrom []netip.Prefix
}

type ignore struct{}
