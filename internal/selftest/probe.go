package selftest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

// finding is the outcome of one probe.
type finding struct {
	name    string // refused or allowed: what had to come of it
	target  string
	outcome Outcome
	reason  string // it did not pass
	status  int    // that was answered; 0: nothing was
	event   Recorded

	unrecorded bool // it was answered, and its decision is not in the database
}

func (f *finding) attributes() []audit.Attribute {
	return []audit.Attribute{
		{Name: f.name + "_outcome", Value: string(f.outcome)}, {Name: f.name + "_target", Value: f.target},
		{Name: f.name + "_status", Value: strconv.Itoa(f.status)}, {Name: f.name + "_reason", Value: f.event.Reason},
		{Name: f.name + "_rule", Value: f.event.Rule}, {Name: f.name + "_mode", Value: f.event.Mode},
		{Name: f.name + "_decision_id", Value: f.event.DecisionID},
	}
}

func (f *finding) end(o Outcome, format string, args ...any) finding {
	f.outcome, f.reason = o, fmt.Sprintf("the probe that must be "+f.name+": "+format, args...)
	return *f
}

// unavailableReasons are the reasons of refusals that do not depend on policy.
var unavailableReasons = []policy.Reason{
	policy.AuditUnavailable, policy.EmergencyStop, policy.ShuttingDown, policy.Overloaded,
	policy.InstanceLimit, policy.RepositoryLimit, policy.StepLimit,
}

// refusedProbe requests a name that no step can need. A control that allows it allows
// everything, or recognizes the probes.
func (t *Test) refusedProbe(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var label [16]byte
	_, _ = rand.Read(label[:])
	f := finding{name: "refused", target: net.JoinHostPort(hex.EncodeToString(label[:])+refusedBelow, strconv.Itoa(port))}
	began := time.Now()
	a := t.connect(ctx, f.target)
	a.close()
	f.status = a.status
	if a.err != nil {
		return f.end(Failed, "it got no answer: %v", a.err)
	}
	if slices.Contains(unavailableReasons, a.reason) {
		return f.end(Inconclusive, "everything is refused: %s", a.reason)
	}
	events, err := t.recorded(ctx, a.step, began, func(all []Recorded) bool { return has(all, audit.KindDecision) })
	f.event, f.unrecorded = first(events, audit.KindDecision), err != nil
	if t.config.Interceptor.wouldDeny() {
		return f.judgeReport(a, err)
	}
	return f.judgeRefusal(a, err)
}

// judgeReport returns the result of the refused probe where policy is in report mode
// and would deny it. err is why its decision is not in the log.
func (f *finding) judgeReport(a *response, err error) finding {
	switch {
	case err != nil:
		return f.end(Failed, "it was answered with %d %s, and no decision is in the log: %v", a.status, a.reason, err)
	case f.event.Mode == policy.Report.String() && (f.event.Verdict == "deny" || f.event.WouldDeny):
		// The name does not exist, so the probe fails for a reason that is not policy's.
		return f.end(wouldDeny, "policy would refuse it, and is in report mode: it refuses nothing yet")
	}
	return f.end(Failed, "it was answered with %d %s, and the log has %q in mode %q", a.status, a.reason, f.event.Verdict, f.event.Mode)
}

// judgeRefusal returns the result of the refused probe. err is why its decision is not
// in the log.
func (f *finding) judgeRefusal(a *response, err error) finding {
	reason := policy.Reason(f.event.Reason)
	switch {
	case a.status == http.StatusOK:
		return f.end(Failed, "it was let out, by rule %q in mode %s", f.event.Rule, f.event.Mode)
	case err != nil:
		return f.end(Failed, "it was answered with %d %s, and no decision is in the log: %v", a.status, a.reason, err)
	case f.event.Verdict != "deny":
		return f.end(Failed, "it was answered with %d %s, and the log has %q in mode %q", a.status, a.reason, f.event.Verdict, f.event.Mode)
	case a.status == http.StatusForbidden && (reason == policy.PolicyDenied || reason == policy.NoRuleMatched):
		f.outcome = Passed
		return *f
	case reason == policy.NameUnresolved:
		return f.end(Failed, "policy lets it out: only its name did not exist")
	}
	return f.end(Failed, "it was refused, but not by policy: %d %s", a.status, a.reason)
}

// allowedProbe asks for the echo, and has bytes sent back through the tunnel.
func (t *Test) allowedProbe(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	f := finding{name: "allowed", target: net.JoinHostPort(EchoHost, strconv.Itoa(port))}
	began := time.Now()
	a := t.connect(ctx, f.target)
	f.status = a.status
	var through error
	if a.err == nil && a.status == http.StatusOK {
		through = t.throughTunnel(a)
	}
	a.close()
	if a.err != nil {
		return f.end(Failed, "it got no answer: %v", a.err)
	}
	if slices.Contains(unavailableReasons, a.reason) {
		return f.end(Inconclusive, "everything is refused: %s", a.reason)
	}
	events, err := t.recorded(ctx, a.step, began, func(all []Recorded) bool {
		return has(all, audit.KindDecision) && (a.status != http.StatusOK || has(all, audit.KindTunnelClosed))
	})
	f.event, f.unrecorded = first(events, audit.KindDecision), err != nil
	switch {
	case a.status != http.StatusOK:
		return f.end(Failed, "it was answered with %d %s", a.status, a.reason)
	case through != nil:
		return f.end(Failed, "its tunnel did not carry what was sent: %v", through)
	case err != nil:
		return f.end(Failed, "its decision, or its end, is not in the log: %v", err)
	case f.event.Verdict != "allow" || f.event.Rule != Rule:
		return f.end(Failed, "the log has %q by rule %q", f.event.Verdict, f.event.Rule)
	}
	f.outcome = Passed
	return f
}

// response is what a CONNECT was answered with.
type response struct {
	step     string
	status   int
	reason   policy.Reason
	conn     net.Conn // nil: none
	reader   *bufio.Reader
	endProbe func()
	err      error
}

func (a *response) close() {
	if a.conn != nil {
		_ = a.conn.Close()
	}
	if a.endProbe != nil {
		a.endProbe()
	}
}

// connect sends a CONNECT with a token of its own. Another process that shares the
// socket, as during a restart, rejects the token; connect tries again then.
func (t *Test) connect(ctx context.Context, to string) *response {
	for try := 1; ; try++ {
		a := t.connectOnce(ctx, to)
		if a.status != http.StatusProxyAuthRequired || try == maxAttempts || ctx.Err() != nil {
			return a
		}
		a.close()
	}
}

func (t *Test) connectOnce(ctx context.Context, to string) *response {
	a := &response{step: uuid.NewV4()}
	var from netip.Addr
	if a.conn, from, a.err = t.config.Dial(ctx); a.err != nil {
		return a
	}
	_ = a.conn.SetDeadline(time.Now().Add(probeTimeout))
	field, endProbe := t.config.Interceptor.issueToken(a.step, from)
	a.endProbe = endProbe
	if _, a.err = fmt.Fprintf(a.conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", to, to, field); a.err != nil {
		return a
	}
	a.reader = bufio.NewReader(a.conn)
	resp, err := http.ReadResponse(a.reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		a.err = err
		return a
	}
	a.status, a.reason = resp.StatusCode, policy.Reason(resp.Header.Get("Sallyport-Reason"))
	return a
}

// throughTunnel speaks TLS with the echo only.
func (t *Test) throughTunnel(a *response) error {
	if a.reader.Buffered() > 0 {
		return errors.New("bytes came before any were sent")
	}
	secured := tls.Client(a.conn, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: EchoHost, RootCAs: t.config.Echo.roots})
	var sent, echoed [echoBytes]byte
	_, _ = rand.Read(sent[:])
	if _, err := secured.Write(sent[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(secured, echoed[:]); err != nil {
		return err
	}
	if !bytes.Equal(sent[:], echoed[:]) {
		return errors.New("other bytes came back")
	}
	return secured.Close()
}

// recorded waits until enough of a probe's events are in the log. On an error it
// returns those that there are.
func (t *Test) recorded(ctx context.Context, step string, began time.Time, enough func([]Recorded) bool) ([]Recorded, error) {
	ctx, cancel := context.WithTimeout(ctx, t.recordTimeout)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		all, err := t.config.Recorded(ctx, step, began.Add(-time.Minute))
		if err == nil && enough(all) {
			return all, nil
		}
		if !pause.For(ctx, wait) {
			return all, errors.Join(fmt.Errorf("not after %v", t.recordTimeout), err)
		}
	}
}

func has(all []Recorded, kind audit.Kind) bool { return first(all, kind).Kind != "" }

func first(all []Recorded, kind audit.Kind) Recorded {
	for _, r := range all {
		if r.Kind == string(kind) {
			return r
		}
	}
	return Recorded{}
}
