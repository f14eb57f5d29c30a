package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

// Gate is the only way out. [Gate.Admit] authenticates, decides, resolves and records
// every request of every protocol, in this order, and admits only those that pass all
// four steps. The zero Gate admits nothing: [NewGate] makes one that can.
type Gate struct {
	config   Config
	refusals refusalLimits
	requests *fair.Limiter
	dials    *fair.Limiter
	closed   atomic.Bool
	stopped  atomic.Bool
	ends     sync.WaitGroup // that are being recorded in the background
	quotas   byteQuotas
	repeats  repeats
}

// Config configures a gate. The four interfaces and the guard are required.
type Config struct {
	Authenticator   Authenticator
	Decider         Decider
	Recorder        Recorder
	Resolver        Resolver
	Guard           *Guard
	Dialer          Dialer
	UpstreamProxies []*UpstreamProxy // the first one that matches a host is used

	Log      *slog.Logger // canonical lines, one for a decision and one for an end; nil: none
	Observer Observer     // counters; nil: none
	// RefusedPerSecond bounds the events of refusals before a request is under a step's
	// limits: of clients whose credential is not accepted, by address; of steps over a
	// limit, during an emergency stop, or whose name or token cannot be checked, by step,
	// and four times as many by repository. Refusals over the rate are counted. 0: 5.
	RefusedPerSecond int
	// RepeatInterval is how often the counts of repeated refusals are recorded, by
	// [Gate.RunRepeats]. A crash loses the counts of one interval at most. 0: a minute.
	RepeatInterval time.Duration
	// Limits bound what verified steps use. The zero value has no limits.
	Limits Limits
	// RecordWait bounds the time that a decision waits for the log. 0: 10 s.
	RecordWait time.Duration
	Now        func() time.Time // nil: time.Now
}

// Observer counts what happens. Its methods must not block and must be safe for
// concurrent use.
type Observer interface {
	// Decided is called once for each attempt, with the reason that it got.
	Decided(action policy.Action, verdict policy.Verdict, reason policy.Reason, wouldDeny bool)
	// Stage is called with the duration of a stage: authenticate, queue, decide, resolve,
	// record or dial.
	Stage(stage string, took time.Duration)
	// Closed is called at the end of an admission.
	Closed(action policy.Action, cause Cause, sent, received int64)
	// Unrecorded is called for a refusal without an event: of a client over its rate
	// whose credential is not accepted, or of one without a credential.
	Unrecorded(reason policy.Reason)
}

// NewGate returns a gate, or an error that names what is missing.
func NewGate(c Config) (*Gate, error) {
	switch {
	case c.Authenticator == nil:
		return nil, errors.New("proxy: a gate needs an Authenticator")
	case c.Decider == nil:
		return nil, errors.New("proxy: a gate needs a Decider")
	case c.Recorder == nil:
		return nil, errors.New("proxy: a gate needs a Recorder")
	case c.Resolver == nil:
		return nil, errors.New("proxy: a gate needs a Resolver")
	case c.Guard == nil:
		return nil, errors.New("proxy: a gate needs a Guard")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = ignore{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.RecordWait = cmp.Or(c.RecordWait, 10*time.Second)
	c.RepeatInterval = cmp.Or(c.RepeatInterval, time.Minute)
	if err := c.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: Limits: %w", err)
	}
	c.Dialer.guard = c.Guard
	g := &Gate{config: c, requests: fair.New(c.Limits.requests()), dials: fair.New(c.Limits.dials())}
	g.refusals.set(cmp.Or(c.RefusedPerSecond, 5))
	return g, nil
}

// Attempt is one request, as it was read from a connection.
type Attempt struct {
	Action   policy.Action
	Target   string // the request target as sent: authority-form for connect, absolute-form for request
	HTTP     *policy.HTTPRequest
	Client   netip.AddrPort
	Peer     netip.Addr // the proxy that named the client by the PROXY protocol; the zero address: none
	Listener string     // the name of the listener that it came in by

	Credential identity.Credential
	// CredentialError is why no credential could be read, an *identity.Error.
	CredentialError error

	// HeaderBytes is the size of the request head, which is in memory during the request.
	HeaderBytes int64
	// Gone reports whether the client has closed its connection. It is called from
	// another goroutine while the attempt waits for its rate, and must not block. nil:
	// unknown.
	Gone func() bool
}

// CloseAdmission makes the gate refuse everything new with shutting_down.
// What was admitted continues.
func (g *Gate) CloseAdmission() { g.closed.Store(true) }

// Wait returns when every end that is recorded in the background is recorded. Nothing may
// be admitted meanwhile.
func (g *Gate) Wait() { g.ends.Wait() }

// Stop makes the gate refuse everything with emergency_stop until [Gate.Resume]. What was
// admitted continues, until the caller closes it by [Tracker.Close].
func (g *Gate) Stop() { g.stopped.Store(true) }

// Resume ends a stop.
func (g *Gate) Resume() { g.stopped.Store(false) }

// Stopped reports whether the gate is stopped.
func (g *Gate) Stopped() bool { return g.stopped.Load() }

type ignore struct{}

func (ignore) Decided(policy.Action, policy.Verdict, policy.Reason, bool) {}
func (ignore) Stage(string, time.Duration)                                {}
func (ignore) Closed(policy.Action, Cause, int64, int64)                  {}
func (ignore) Unrecorded(policy.Reason)                                   {}
