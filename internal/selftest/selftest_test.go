package selftest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/frontend"
	"github.com/sallyport/sallyport/proxy/goproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is the real frontend and the real gate around a policy, steps and a log that
// are small.
type env struct {
	*Test
	t           *testing.T
	interceptor *ProbeInterceptor
	echo        *Echo
	address     string
	gate        *proxy.Gate

	mu      sync.Mutex
	events  []audit.Event
	decide  func(*policy.Request) (policy.Decision, error)
	away    error // of the log
	resolve func(host string) ([]netip.Addr, error)
	log     bytes.Buffer
}

func (h *env) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	if c.Reveal() != "step" {
		return nil, &identity.Error{Problem: identity.CredentialMalformed, Detail: "no step's"}
	}
	return step, nil
}

var step = &identity.Principal{Kind: identity.KindBitbucketStep, Issuer: "https://issuer.example",
	Workspace: identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d"}, Repository: identity.Repository{UUID: "11112222-3333-4444-5555-000000000001"},
	Step: identity.Run{UUID: "11112222-3333-4444-5555-000000000002"}}

func (h *env) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.decide(r)
}

func (h *env) Record(_ context.Context, e *audit.Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away == nil {
		h.events = append(h.events, *e)
	}
	return h.away
}

func (h *env) AvailableTo(audit.Source) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.away
}

func (h *env) Resolve(_ context.Context, _ fair.Subject, host string) ([]netip.Addr, error) {
	if h.resolve != nil {
		return h.resolve(host)
	}
	return nil, errors.New("no such name")
}

func (h *env) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

// of returns the events of a kind.
func (h *env) of(kind audit.Kind) []audit.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var some []audit.Event
	for _, e := range h.events {
		if e.Kind == kind {
			some = append(some, e)
		}
	}
	return some
}

func (h *env) recordedOf(_ context.Context, step string, _ time.Time) ([]Recorded, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Recorded
	decided := map[string]bool{}
	for _, e := range h.events {
		if decided[e.DecisionID] = decided[e.DecisionID] || e.StepUUID == step; decided[e.DecisionID] {
			all = append(all, Recorded{string(e.Kind), e.DecisionID, e.Verdict, e.Mode, e.WouldDeny, e.Reason, e.Rule, e.CloseReason})
		}
	}
	return all, nil
}

func nothing(*policy.Request) (policy.Decision, error) {
	return policy.Decision{Reason: policy.NoRuleMatched, Input: []byte(`{}`), Revision: policy.Revision{Digest: "sha256:x"}}, nil
}

func everything(*policy.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Allow, Rule: "all", Rules: []string{"all"}, Protocol: policy.ProtocolAny}, nil
}

func reports(*policy.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Allow, WouldDeny: true, Mode: policy.Report, Reason: policy.NoRuleMatched}, nil
}

// build makes an env. Without the control, the gate asks the policy itself.
func build(t *testing.T, decide func(*policy.Request) (policy.Decision, error), control bool) *env {
	t.Helper()
	h := &env{t: t, decide: decide}
	h.interceptor = NewProbeInterceptor(h, h)
	var err error
	if h.echo, err = OpenEcho(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.echo.Close)
	via, err := h.echo.UpstreamProxy()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	config := proxy.Config{Authenticator: h.interceptor, Decider: h.interceptor, Recorder: h, Resolver: h, Guard: &proxy.Guard{}, UpstreamProxies: []*proxy.UpstreamProxy{via}}
	if !control {
		config.Decider = h
	}
	if h.gate, err = proxy.NewGate(config); err != nil {
		t.Fatal(err)
	}
	tracker := proxy.NewTracker(proxy.TunnelConfig{IdleTimeout: time.Minute, MaxLifetime: time.Minute, HelloTimeout: 5 * time.Second})
	forwarder := goproxy.New(goproxy.Config{Tracker: tracker, MaxLifetime: time.Minute})
	t.Cleanup(forwarder.Close)
	f, err := frontend.New(frontend.Config{Gate: h.gate, Tracker: tracker, Forwarder: forwarder})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = f.Serve(l, frontend.ListenerConfig{Name: "test"}) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = f.Shutdown(ctx)
		tracker.Drain(ctx)
		serving.Wait()
		h.gate.Wait()
	})
	h.Test = New(Config{
		Interceptor: h.interceptor, Echo: h.echo, Recorded: h.recordedOf, Record: h.Record, Interval: time.Hour,
		Dial: func(ctx context.Context) (net.Conn, netip.Addr, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.address)
			return conn, netip.MustParseAddr("127.0.0.1"), err
		},
		Log: slog.New(slog.NewTextHandler(h, nil)),
	})
	return h
}

// connect asks for a target with a credential, and returns the connection, at which
// a tunnel begins where the status is 200.
func (h *env) connect(to, credential string) (int, string, net.Conn) {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", to, to, credential)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Sallyport-Reason"), conn
}

// TestPasses: both probes go the whole way, and are recorded as what they are.
func TestPasses(t *testing.T) {
	h := build(t, nothing, true)
	if outcome := h.once(t.Context()); outcome != Passed {
		t.Fatalf("%s: %s", outcome, h.Status().Reason)
	}
	decisions := h.of(audit.KindDecision)
	if len(decisions) != 2 || len(h.of(audit.KindTunnelClosed)) != 1 {
		t.Fatalf("%d decisions, %d ends", len(decisions), len(h.of(audit.KindTunnelClosed)))
	}
	for i, want := range []string{"deny no_rule_matched ", "allow policy_allowed " + Rule} {
		d := decisions[i]
		if got := d.Verdict + " " + d.Reason + " " + d.Rule; got != want || d.CredentialKind != Kind || d.Revision != "sha256:x" || string(d.Input) != "{}" {
			t.Errorf("%s, %+v", got, d)
		}
	}
	tests := h.of(audit.KindSelfTest)
	if len(tests) != 1 || outcomeOf(&tests[0]) != "passed" || tests[0].Message != "" {
		t.Fatalf("%+v", tests)
	}
	for _, a := range tests[0].Attributes {
		if strings.HasSuffix(a.Name, "_decision_id") && a.Value != decisions[0].DecisionID && a.Value != decisions[1].DecisionID {
			t.Errorf("%s=%s", a.Name, a.Value)
		}
	}
	if s := h.Status(); s.Outcome != Passed || s.Passed.IsZero() || s.Counts[Passed] != 1 {
		t.Errorf("%+v", s)
	}
}

// TestFails: a control that is not effective fails the test; a test that cannot run does not.
func TestFails(t *testing.T) {
	recordedAfterwards := func(h *env) {
		h.recordTimeout = 50 * time.Millisecond
		h.config.Recorded = func(context.Context, string, time.Time) ([]Recorded, error) { return nil, nil }
	}
	for name, c := range map[string]struct {
		decide  func(*policy.Request) (policy.Decision, error)
		change  func(*env)
		control bool
		want    Outcome
		why     string
	}{
		"allows everything": {everything, nil, true, Failed, "policy lets it out"},
		"allows it and it exists": {everything, func(h *env) {
			h.resolve = func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil }
		}, true, Failed, "not by policy"},
		"cannot be evaluated": {func(*policy.Request) (policy.Decision, error) { return policy.Decision{}, errors.New("x") }, nil, true, Failed, "not by policy: 403 policy_error"},
		"allows everything, and is in report mode": {func(*policy.Request) (policy.Decision, error) {
			return policy.Decision{Verdict: policy.Allow, Mode: policy.Report, Rule: "all", Rules: []string{"all"}}, nil
		}, nil, true, Failed, "policy lets it out"},
		"reports, and the log says otherwise": {reports, func(h *env) {
			recorded := h.config.Recorded
			h.config.Recorded = func(ctx context.Context, step string, since time.Time) ([]Recorded, error) {
				all, err := recorded(ctx, step, since)
				for i := range all {
					all[i].Mode = "enforce"
				}
				return all, err
			}
		}, true, Failed, `the log has "deny" in mode "enforce"`},
		"no interceptor before the policy": {nothing, nil, false, Failed, "must be allowed: it was answered with 403"},
		"stopped":                          {nothing, func(h *env) { h.gate.Stop() }, true, Inconclusive, "emergency_stop"},
		"log away": {nothing, func(h *env) {
			h.away, h.recordTimeout = errors.New("away"), 50*time.Millisecond
			h.config.LogComplete = func() error { return h.AvailableTo(audit.Source{}) }
		}, true, Inconclusive, "the audit database is unavailable"},
		"echo gone": {nothing, func(h *env) { _ = h.echo.listener.Close() }, true, Failed, "must be allowed: it was answered with 502"},
		"nobody listens": {nothing, func(h *env) {
			h.config.Dial = func(context.Context) (net.Conn, netip.Addr, error) {
				return nil, netip.Addr{}, errors.New("refused")
			}
		}, true, Failed, "no answer"},
		"from elsewhere": {nothing, func(h *env) {
			dial := h.config.Dial
			h.config.Dial = func(ctx context.Context) (net.Conn, netip.Addr, error) {
				conn, _, err := dial(ctx)
				return conn, netip.MustParseAddr("192.0.2.1"), err
			}
		}, true, Failed, "must be allowed: it was answered with 403"},
		"not recorded": {nothing, recordedAfterwards, true, Failed, "no decision is in the log"},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, c.decide, c.control)
			if c.change != nil {
				c.change(h)
			}
			if outcome := h.once(t.Context()); outcome != c.want || !strings.Contains(h.Status().Reason, c.why) {
				t.Errorf("%s: %s", outcome, h.Status().Reason)
			}
			if s := h.Status(); !s.Passed.IsZero() {
				t.Error("it passed")
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if c.want == Failed && !strings.Contains(h.log.String(), "SELF-TEST FAILED") {
				t.Error("not loud")
			}
		})
	}
}

// TestReportMode: where policy would refuse the probe and is in report mode, the
// test passes with a note, without alarm, also if the name has an address.
func TestReportMode(t *testing.T) {
	for name, resolve := range map[string]func(string) ([]netip.Addr, error){
		"no such name": nil,
		"a prohibited address": func(string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t, reports, true)
			h.resolve = resolve
			if outcome := h.once(t.Context()); outcome != Passed {
				t.Fatalf("%s: %s", outcome, h.Status().Reason)
			}
			tests := h.of(audit.KindSelfTest)
			if len(tests) != 1 || outcomeOf(&tests[0]) != "passed" || !strings.Contains(tests[0].Message, "is in report mode") {
				t.Fatalf("%+v", tests)
			}
			for _, want := range []audit.Attribute{{Name: "refused_outcome", Value: "would_deny"}, {Name: "refused_mode", Value: "report"}, {Name: "allowed_outcome", Value: "passed"}} {
				if !slices.Contains(tests[0].Attributes, want) {
					t.Errorf("no %v in %v", want, tests[0].Attributes)
				}
			}
			if s := h.Status(); s.Outcome != Passed || s.Passed.IsZero() || s.Reason == "" {
				t.Errorf("%+v", s)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if strings.Contains(h.log.String(), "level=WARN msg=self") || strings.Contains(h.log.String(), "level=ERROR") {
				t.Errorf("an alarm:\n%s", h.log.String())
			}
		})
	}
}

// TestStepAtTheEcho: a step whose policy allows everything does not get where the
// probe does; without the interceptor it would.
func TestStepAtTheEcho(t *testing.T) {
	for _, to := range []string{EchoHost + ":443", zone + ":443", "x" + refusedBelow + ":443", EchoHost + ":8443", strings.ToUpper(EchoHost) + ".:443"} {
		h := build(t, everything, true)
		if status, reason, _ := h.connect(to, "Bearer step"); status != 403 || reason != string(policy.PolicyDenied) {
			t.Errorf("%s: %d %s", to, status, reason)
		}
	}
	h := build(t, everything, false)
	status, _, conn := h.connect(EchoHost+":443", "Bearer step")
	if status != 200 {
		t.Fatalf("without the control: %d", status)
	}
	secured := tls.Client(conn, &tls.Config{ServerName: EchoHost, RootCAs: h.echo.roots})
	if err := secured.Handshake(); err != nil {
		t.Errorf("without the control a step reaches the echo: %v", err)
	}
}

// TestProbeTokenIsForOneUse: a token that was used, is too old, or was ended is refused.
// Otherwise a client that has seen one could be the probe.
func TestProbeTokenIsForOneUse(t *testing.T) {
	h := build(t, everything, true)
	field, endProbe := h.interceptor.issueToken(uuid.NewV4(), netip.MustParseAddr("127.0.0.1"))
	token := strings.TrimPrefix(field, "Bearer ")
	if status, _, _ := h.connect(EchoHost+":443", "Bearer "+token[:len(token)-1]+"g"); status != 407 {
		t.Errorf("another token: %d", status)
	}
	if status, _, _ := h.connect(EchoHost+":443", field); status != 200 {
		t.Errorf("the token: %d", status)
	}
	if status, _, _ := h.connect(EchoHost+":443", field); status != 407 {
		t.Errorf("the token again: %d", status)
	}
	endProbe()
	field, endProbe = h.interceptor.issueToken(uuid.NewV4(), netip.MustParseAddr("127.0.0.1"))
	endProbe()
	if status, _, _ := h.connect(EchoHost+":443", field); status != 407 {
		t.Errorf("a token that was ended: %d", status)
	}
	field, endProbe = h.interceptor.issueToken(uuid.NewV4(), netip.MustParseAddr("127.0.0.1"))
	defer endProbe()
	h.interceptor.mu.Lock()
	h.interceptor.token.expires = time.Now().Add(-time.Second)
	h.interceptor.mu.Unlock()
	if status, _, _ := h.connect(EchoHost+":443", field); status != 407 {
		t.Errorf("a token that is too old: %d", status)
	}
	// The control taken away: the same token twice.
	h.interceptor.mu.Lock()
	h.interceptor.token.expires = time.Now().Add(time.Minute)
	again := *h.interceptor.token
	h.interceptor.mu.Unlock()
	for i := range 2 {
		if status, _, _ := h.connect(EchoHost+":443", field); status != 200 {
			t.Errorf("without the control, time %d: %d", i+1, status)
		}
		h.interceptor.mu.Lock()
		h.interceptor.token = &again
		h.interceptor.mu.Unlock()
	}
}

// TestProbeGetsNowhereElse: with a token, and a policy that allows everything, there
// is nothing else to be had; without the interceptor there is.
func TestProbeGetsNowhereElse(t *testing.T) {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	try := func(control bool, to string, from string) (int, string) {
		h := build(t, everything, control)
		h.resolve = func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil }
		field, endProbe := h.interceptor.issueToken(uuid.NewV4(), netip.MustParseAddr(from))
		defer endProbe()
		status, reason, _ := h.connect(to, field)
		return status, reason
	}
	for _, to := range []string{"partner.example:443", "127.0.0.1:443", EchoHost + ":80", "not-" + EchoHost + ":443"} {
		if status, reason := try(true, to, "127.0.0.1"); status != 403 || reason != string(policy.PolicyDenied) {
			t.Errorf("%s: %d %s", to, status, reason)
		}
	}
	if status, reason := try(true, EchoHost+":443", "192.0.2.7"); status != 403 || reason != string(policy.PolicyDenied) {
		t.Errorf("from another address: %d %s", status, reason)
	}
	// Policy allows it, and so only the guard stands before it.
	if status, reason := try(false, "partner.example:443", "127.0.0.1"); status != 403 || reason != string(policy.AddressProhibited) {
		t.Errorf("without the control: %d %s", status, reason)
	}
}

// TestOnlyTheProbesPrincipal: a principal of the probes' kind that is not the one whose
// token was presented is refused everything.
func TestOnlyTheProbesPrincipal(t *testing.T) {
	h := build(t, everything, true)
	echo, err := destination.ParseAuthority(EchoHost + ":443")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := destination.ParseAuthority("partner.example:443")
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddr("127.0.0.1")
	field, endProbe := h.interceptor.issueToken(uuid.NewV4(), from)
	principal, err := h.interceptor.Authenticate(t.Context(), identity.NewCredential(strings.TrimPrefix(field, "Bearer ")))
	if err != nil || principal.Kind != Kind {
		t.Fatal(err)
	}
	impostor := *principal
	ask := func(p *identity.Principal, to destination.Target, action policy.Action) policy.Verdict {
		d, err := h.interceptor.Decide(t.Context(), &policy.Request{Principal: p, Action: action, Target: to, ClientAddress: from, Time: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return d.Verdict
	}
	if ask(principal, echo, policy.Connect) != policy.Allow {
		t.Error("the probe is refused")
	}
	if ask(principal, echo, policy.Forward) == policy.Allow || ask(principal, elsewhere, policy.Connect) == policy.Allow {
		t.Error("the probe gets more than its tunnel")
	}
	for _, to := range []destination.Target{echo, elsewhere} {
		if ask(&impostor, to, policy.Connect) == policy.Allow {
			t.Errorf("an impostor gets to %s", to)
		}
	}
	if ask(step, elsewhere, policy.Connect) != policy.Allow || ask(step, echo, policy.Connect) == policy.Allow {
		t.Error("a step")
	}
	endProbe()
	if ask(principal, echo, policy.Connect) == policy.Allow {
		t.Error("the probe is let out when it is over")
	}
	h.decide = func(*policy.Request) (policy.Decision, error) { return policy.Decision{}, errors.New("x") }
	if _, err := h.interceptor.Decide(t.Context(), &policy.Request{Principal: principal, Target: echo}); err == nil {
		t.Error("an error of the policy is passed over")
	}
}

// TestEchoIsForTheGate: without the gate's credential, or for another name, it sends
// nothing.
func TestEchoIsForTheGate(t *testing.T) {
	h := build(t, nothing, true)
	for _, head := range []string{
		"CONNECT " + EchoHost + ":443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT " + EchoHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic c2VsZi10ZXN0Og==\r\n\r\n",
		"GET http://" + EchoHost + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x00\x00", strings.Repeat("x", 2*echoHead),
	} {
		conn, err := net.Dial("tcp", h.echo.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte(head))
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, _ := bufio.NewReader(conn).ReadString('\n')
		if answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 403") {
			t.Errorf("%.40q: %q", head, answer)
		}
		_ = conn.Close()
	}
}

// TestNoSecretIsRecorded: neither the token nor the echo's credential stands in an event
// or the log.
func TestNoSecretIsRecorded(t *testing.T) {
	h := build(t, everything, true)
	field, endProbe := h.interceptor.issueToken(uuid.NewV4(), netip.MustParseAddr("127.0.0.1"))
	h.connect("partner.example:443", field)
	endProbe()
	h.once(t.Context())
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.log.String() + fmt.Sprintf("%+v", h.events)
	for _, secret := range []string{strings.TrimPrefix(field, "Bearer "), h.echo.credential, strings.TrimPrefix(h.echo.credential, "self-test:")} {
		if strings.Contains(all, secret) {
			t.Error("a secret is told")
		}
	}
}

// outcomeOf returns the outcome that a self_test event records.
func outcomeOf(e *audit.Event) string {
	for _, a := range e.Attributes {
		if a.Name == "outcome" {
			return a.Value
		}
	}
	return ""
}
