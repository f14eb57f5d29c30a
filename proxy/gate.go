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

// Gate admits or refuses all outbound traffic. For every request of every protocol,
// [Gate.Admit] authenticates, decides, resolves and records, in this order. Only a
// request that passes all four steps is admitted. The zero Gate admits nothing; use
// [NewGate]. A Gate is safe for concurrent use.
type Gate struct {
	config   Config
	refusals refusalLimits
	requests *fair.Limiter
	dials    *fair.Limiter
	closed   atomic.Bool
	stopped  atomic.Bool
	ends     sync.WaitGroup // close events that are being recorded in the background
	quotas   byteQuotas
	repeats  repeats
	failures failureLog

	strangers strangers
}

// Config configures a gate. Authenticator, Decider, Recorder, Resolver and Guard are
// required.
type Config struct {
	Authenticator   Authenticator
	Decider         Decider
	Recorder        Recorder
	Resolver        Resolver
	Guard           *Guard
	Dialer          Dialer
	UpstreamProxies []*UpstreamProxy // the first one that matches a host is used

	Log      *slog.Logger // canonical log lines, one per decision and one per close; nil: none
	Observer Observer     // nil: none
	// RefusedPerSecond is the maximum rate of recorded refusals of these kinds:
	//
	//   - per client address: rejected credentials;
	//   - per step: a limit is reached, an emergency stop is active, or the name or token
	//     cannot be checked. The rate of a repository is four times this rate.
	//
	// Refusals over the rate are counted and not recorded. 0: 5.
	RefusedPerSecond int
	// RepeatInterval is the interval at which [Gate.RunRepeats] records the counts of
	// repeated refusals. A crash loses the counts of at most one interval. 0: 1 min.
	RepeatInterval time.Duration
	// Limits bound what verified steps use. The zero value has no limits.
	Limits Limits
	// RecordWait bounds the time that a decision waits for the log. 0: 10 s.
	RecordWait time.Duration
	Now        func() time.Time // nil: time.Now
}

// Observer receives counts and durations for metrics. Its methods must not block and must be safe for
// concurrent use.
type Observer interface {
	// Decided is called once for each attempt, with its verdict and reason. wouldDeny
	// means that only report mode allowed the attempt.
	Decided(action policy.Action, verdict policy.Verdict, reason policy.Reason, wouldDeny bool)
	// Stage is called with the duration of a stage: authenticate, queue, decide, resolve,
	// record or dial.
	Stage(stage string, duration time.Duration)
	// Closed is called once at the end of an admission. sent and received are in bytes.
	Closed(action policy.Action, cause Cause, sent, received int64)
	// WouldClose is called for each tunnel that report mode lets continue, with the close
	// reason that it would have in enforce mode.
	WouldClose(cause Cause)
	// Unrecorded is called for a refusal without an event. Either the request has no
	// credential, or its credential is rejected and its client is over its rate.
	Unrecorded(reason policy.Reason)
}

// NewGate returns a gate, or an error that names the missing or invalid field.
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
		c.Observer = noopObserver{}
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
	g.strangers.addresses.perSecond = cmp.Or(c.RefusedPerSecond, 5)
	return g, nil
}

// Attempt is one request, as it was read from a connection.
type Attempt struct {
	Action   policy.Action
	Target   string // the request target as sent: authority-form for connect, absolute-form for request
	HTTP     *policy.HTTPRequest
	Client   netip.AddrPort
	Peer     netip.Addr // the load balancer that sent a PROXY protocol header; the zero Addr: none
	Listener string     // the name of the listener that accepted the connection

	Credential identity.Credential
	// CredentialError is an *identity.Error if no credential could be read, or nil.
	CredentialError error

	// HeaderBytes is the size of the request head. The head is in memory during the request.
	HeaderBytes int64
	// Gone reports whether the client has closed its connection. It must not block.
	// Another goroutine calls it while the attempt waits for its rate limit. nil: unknown.
	Gone func() bool
}

// CloseAdmission makes the gate refuse every new attempt with shutting_down. Existing
// admissions continue.
func (g *Gate) CloseAdmission() { g.closed.Store(true) }

// Wait blocks until every close event in the background is recorded. No attempt may be
// admitted during the call.
func (g *Gate) Wait() { g.ends.Wait() }

// Stop makes the gate refuse every attempt with emergency_stop until [Gate.Resume].
// Existing admissions continue until the caller closes them with [Tracker.Close].
func (g *Gate) Stop() { g.stopped.Store(true) }

// Resume reverts [Gate.Stop].
func (g *Gate) Resume() { g.stopped.Store(false) }

// Stopped reports whether the gate is stopped.
func (g *Gate) Stopped() bool { return g.stopped.Load() }

type noopObserver struct{}

func (noopObserver) Decided(policy.Action, policy.Verdict, policy.Reason, bool) {}
func (noopObserver) Stage(string, time.Duration)                                {}
func (noopObserver) Closed(policy.Action, Cause, int64, int64)                  {}
func (noopObserver) WouldClose(Cause)                                           {}
func (noopObserver) Unrecorded(policy.Reason)                                   {}
