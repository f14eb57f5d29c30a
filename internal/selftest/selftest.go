// Package selftest sends two probes through a listener of this process: one that
// policy must refuse, and one that must be allowed.
//
// A probe is a CONNECT over TCP, with a credential for this one attempt. The code that
// reads, decides, records, dials and relays a probe is the code that does so for a
// step. The [ProbeInterceptor] recognizes the probe, restricts its principal to the
// two reserved names, and denies these names to every other principal. ADR 0017
// explains why that weakens no control.
package selftest

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/policy"
)

// The reserved names. No name under .invalid exists (RFC 6761 section 6.4).
const (
	zone = "sallyport-self-test.invalid"
	// EchoHost is what is let out to, a server inside this process.
	EchoHost     = "echo." + zone
	refusedBelow = ".refused." + zone // what must be refused is below it
	port         = 443
)

// Kind is the kind of the probes' principal, input.principal.kind in policy, and
// the credential_kind of their decisions.
const Kind = "self_test"

// Rule is the rule by which the echo is let out to, and by which the reserved
// names are kept from others.
const Rule = "sallyport-self-test"

// Outcome is the result of a self-test.
type Outcome string

// The outcomes. A test that could not run (an emergency stop, an unavailable log, an
// instance at its limits) is not evidence about the controls.
const (
	Passed       Outcome = "passed"
	Failed       Outcome = "failed"
	Inconclusive Outcome = "inconclusive"
)

// wouldDeny is the outcome of the probe that must be refused if policy is in report mode
// and would deny it. The test passes, with a note: policy is right and is not enforced,
// as the organization has chosen. It is not an outcome of a test.
const wouldDeny Outcome = "would_deny"

// Outcomes are all outcomes.
var Outcomes = []Outcome{Passed, Failed, Inconclusive}

const (
	probeTimeout  = 20 * time.Second // for one probe
	recordTimeout = 10 * time.Second // an event of it is in the log by then
	retryAfter    = 10 * time.Minute // a test that was inconclusive is made again
	maxAttempts   = 5                // the process before may still accept on a shared socket
)

// Recorded is an event of a probe as the log has it.
type Recorded struct {
	Kind        string
	DecisionID  string
	Verdict     string
	Mode        string
	WouldDeny   bool
	Reason      string
	Rule        string
	CloseReason string
}

// Config configures a [Test].
type Config struct {
	Interceptor *ProbeInterceptor
	Echo        *Echo
	// Dial connects to a listener of this process, up to where a request can be
	// written, and returns its own address.
	Dial func(context.Context) (net.Conn, netip.Addr, error)
	// Recorded returns the events of a step since a time, from the database.
	Recorded func(ctx context.Context, stepUUID string, since time.Time) ([]Recorded, error)
	// LogComplete returns an error while events wait outside of the database; nil: they
	// never do.
	LogComplete func() error
	// Record makes an event durable.
	Record func(context.Context, *audit.Event) error
	// Revision is the policy that decides now.
	Revision func() policy.Revision
	Interval time.Duration
	Log      *slog.Logger // nil: none
}

// Status is the state of the tests of this process.
type Status struct {
	Outcome Outcome   // of the latest; empty: none yet
	At      time.Time // when the latest was made
	Passed  time.Time // when the latest passed; zero: none
	Reason  string    // it did not pass, or passed in report mode only
	Counts  map[Outcome]int64
}

// Test makes the tests.
type Test struct {
	config        Config
	recordTimeout time.Duration

	mu     sync.Mutex
	status Status
}

// New returns a test that waits for Run.
func New(c Config) *Test {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return &Test{config: c, recordTimeout: recordTimeout, status: Status{Counts: map[Outcome]int64{}}}
}

// Status returns the state.
func (t *Test) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	s.Counts = make(map[Outcome]int64, len(t.status.Counts))
	for outcome, n := range t.status.Counts {
		s.Counts[outcome] = n
	}
	return s
}

// Run tests at once and then as often as configured, until ctx ends.
func (t *Test) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := t.config.Interval
		if outcome := t.once(ctx); outcome == Inconclusive {
			wait = min(wait, retryAfter)
		}
		if !pause.For(ctx, wait) {
			return
		}
	}
}

// once makes one test and records it.
func (t *Test) once(ctx context.Context) Outcome {
	refused, allowed := t.refusedProbe(ctx), t.allowedProbe(ctx)
	if ctx.Err() != nil {
		return Inconclusive
	}
	outcome, reason := combine(refused, allowed)
	if outcome == Failed && (refused.unrecorded || allowed.unrecorded) && refused.status != http.StatusOK && t.config.LogComplete != nil {
		// The decision waits in the journal, where the test cannot read it.
		if err := t.config.LogComplete(); err != nil {
			outcome, reason = Inconclusive, "the audit database is unavailable: "+err.Error()
		}
	}
	now := time.Now()
	t.setStatus(now, outcome, reason)
	t.logOutcome(ctx, outcome, reason)
	t.record(ctx, now, outcome, reason, refused, allowed)
	return outcome
}

// combine returns the worst outcome of the probes, and all their reasons.
func combine(probes ...finding) (outcome Outcome, reason string) {
	outcome = Passed
	for _, p := range probes {
		if p.outcome == Failed || p.outcome == Inconclusive && outcome == Passed {
			outcome = p.outcome
		}
		if p.reason != "" {
			reason = strings.TrimPrefix(reason+"; "+p.reason, "; ")
		}
	}
	return outcome, reason
}

func (t *Test) setStatus(now time.Time, outcome Outcome, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.Outcome, t.status.At, t.status.Reason = outcome, now, reason
	t.status.Counts[outcome]++
	if outcome == Passed {
		t.status.Passed = now
	}
}

func (t *Test) logOutcome(ctx context.Context, outcome Outcome, reason string) {
	switch {
	case outcome == Passed && reason != "":
		t.config.Log.InfoContext(ctx, "self-test passed, in report mode", "note", reason)
	case outcome == Passed:
		t.config.Log.InfoContext(ctx, "self-test passed")
	case outcome == Inconclusive:
		t.config.Log.WarnContext(ctx, "self-test could not run", "reason", reason)
	default:
		t.config.Log.ErrorContext(ctx, "SELF-TEST FAILED: a control is not effective", "reason", reason)
	}
}

func (t *Test) record(ctx context.Context, now time.Time, outcome Outcome, why string, probes ...finding) {
	e := &audit.Event{Time: now, Kind: audit.KindSelfTest, Message: why,
		Attributes: []audit.Attribute{{Name: "outcome", Value: string(outcome)}}}
	if t.config.Revision != nil {
		r := t.config.Revision()
		e.Revision, e.Commit = r.Digest, r.Commit
	}
	for _, p := range probes {
		e.Attributes = append(e.Attributes, p.attributes()...)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := t.config.Record(ctx, e); err != nil {
		t.config.Log.ErrorContext(ctx, "a self-test is not recorded", "outcome", string(outcome), "error", err)
	}
}
