package frontend

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper is a memory version of what a gate is plugged into.
type keeper struct {
	mu       sync.Mutex
	events   []*audit.Event
	arrived  chan struct{} // closed and replaced with each event
	away     atomic.Bool   // the log
	protocol policy.Protocol
	requests []*policy.Request
	entered  chan struct{} // receives when a decision is asked for, where it is not nil
	hold     chan struct{} // decisions wait for it, where it is not nil
	panics   bool
	revoked  atomic.Bool // every credential
}

func (k *keeper) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	token := c.Reveal()
	if k.revoked.Load() {
		return nil, &identity.Error{Problem: identity.CredentialRevoked, Detail: "an operator has ended the step"}
	}
	if reason, ok := strings.CutPrefix(token, "reason."); ok {
		return nil, &identity.Error{Problem: identity.Problem(reason), Detail: "what is wrong with it", Err: errInside,
			Principal: &identity.Principal{Step: identity.Run{UUID: "step-" + reason}}}
	}
	if token != "good" && token != "other" {
		return nil, &identity.Error{Problem: identity.CredentialSignature, Detail: "the signature is not the key's"}
	}
	return &identity.Principal{Kind: identity.KindBitbucketStep, Issuer: "https://issuer.test",
		Step: identity.Run{UUID: "step-" + token}, CredentialKind: identity.CredentialOIDC, CredentialDigest: c.Digest()}, nil
}

func (k *keeper) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	if k.entered != nil {
		k.entered <- struct{}{}
	}
	if k.hold != nil {
		<-k.hold
	}
	if k.panics {
		panic("secret-in-a-panic")
	}
	k.mu.Lock()
	k.requests = append(k.requests, r)
	k.mu.Unlock()
	d := policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "test-allow", Address: true, Protocol: k.protocol}
	if r.Target.Host == "undecided.test" {
		return d, errInside
	}
	if r.Target.Host == "denied.test" {
		d = policy.Decision{Reason: policy.PolicyDenied, Rule: "no-denied", Message: "ask \"them\"\r\nInjected: yes"}
	}
	return d, nil
}

func (k *keeper) Record(_ context.Context, e *audit.Event) error {
	if k.away.Load() {
		return errors.New("the log is away")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
	close(k.arrived)
	k.arrived = make(chan struct{})
	return nil
}

func (k *keeper) AvailableTo(audit.Source) error { return nil }

// errInside is for our own log only.
var errInside = errors.New("dial tcp 10.9.8.7:53: connect: connection refused")

func (k *keeper) Resolve(_ context.Context, _ fair.Subject, host string) ([]netip.Addr, error) {
	if host == "unresolved.test" {
		return nil, errInside
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

func (k *keeper) kinds() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.events {
		list = append(list, string(e.Kind)+" "+e.Verdict+e.CloseReason)
	}
	return list
}

// await returns the events once there are n of them.
func (k *keeper) await(t testing.TB, n int) []*audit.Event {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		k.mu.Lock()
		events, arrived := k.events[:len(k.events):len(k.events)], k.arrived
		k.mu.Unlock()
		if len(events) >= n {
			return events
		}
		select {
		case <-arrived:
		case <-late:
			t.Fatalf("%d events came, want %d: %v", len(events), n, k.kinds())
		}
	}
}

// echoing is a forwarder that answers by itself and keeps what it was given.
type echoing struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
	handler  func(w proxy.ResponseWriter, r *http.Request, a *proxy.Admission)
}

func (f *echoing) Forward(w proxy.ResponseWriter, r *http.Request, a *proxy.Admission) {
	defer a.Close(proxy.Outcome{Cause: proxy.CauseFinished})
	if f.handler != nil {
		f.handler(w, r, a)
		return
	}
	body, err := io.ReadAll(r.Body)
	if e, ok := errors.AsType[interface {
		error
		Refusal() *proxy.Refusal
	}](err); ok {
		w.Refuse(e.Refusal())
		return
	}
	if err != nil {
		w.Abort()
		return
	}
	f.mu.Lock()
	f.requests, f.bodies = append(f.requests, r), append(f.bodies, string(body))
	f.mu.Unlock()
	text := r.Method + " " + r.URL.String() + " " + string(body)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = io.WriteString(w, text)
}

func (f *echoing) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

type counter struct {
	refused, panicked atomic.Int32
	reasons           sync.Map // of policy.Reason to *atomic.Int32
}

func (c *counter) Refused(_ string, reason policy.Reason) {
	n, _ := c.reasons.LoadOrStore(reason, new(atomic.Int32))
	n.(*atomic.Int32).Add(1)
	c.refused.Add(1)
}

// count is how many refusals with a reason there were.
func (c *counter) count(reason policy.Reason) int32 {
	n, ok := c.reasons.Load(reason)
	if !ok {
		return 0
	}
	return n.(*atomic.Int32).Load()
}
func (c *counter) Panicked(string) { c.panicked.Add(1) }

// env is a running server with everything around it.
type env struct {
	*keeper
	*counter
	server  *Server
	gate    *proxy.Gate
	tracker *proxy.Tracker
	forward *echoing
	address string
	tls     *tls.Config // of a client, where the listener speaks it
	log     *lockedLog
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a server on a loopback port until the test ends.
func start(t testing.TB, change func(*env, *Config, *ListenerConfig)) *env {
	t.Helper()
	s := &env{keeper: &keeper{arrived: make(chan struct{}), protocol: policy.ProtocolAny}, counter: &counter{}, forward: &echoing{}, log: &lockedLog{}}
	var err error
	s.gate, err = proxy.NewGate(proxy.Config{Authenticator: s.keeper, Decider: s.keeper, Recorder: s.keeper, Resolver: s.keeper,
		Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, RefusedPerSecond: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s.tracker = proxy.NewTracker(proxy.TunnelConfig{})
	config := Config{Gate: s.gate, Tracker: s.tracker, Forwarder: s.forward, Observer: s.counter, Pseudonym: "sallyport-test",
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	lc := ListenerConfig{Name: "test"}
	if change != nil {
		change(s, &config, &lc)
	}
	if s.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l, lc) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = s.server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// client is a raw connection to the server.
type client struct {
	t testing.TB
	proxy.Stream
	r *bufio.Reader
}

func (s *env) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	var stream proxy.Stream = conn.(*net.TCPConn)
	if s.tls != nil {
		stream = tls.Client(conn, s.tls)
	}
	return newClient(t, stream)
}

func newClient(t testing.TB, stream proxy.Stream) *client {
	t.Cleanup(func() { _ = stream.Close() })
	_ = stream.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{t, stream, bufio.NewReader(stream)}
}

func (c *client) send(raw string) *client {
	c.t.Helper()
	if _, err := io.WriteString(c.Stream, raw); err != nil {
		c.t.Fatalf("send: %v", err)
	}
	return c
}

// answer reads one response with its content.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	if method == http.MethodConnect && resp.StatusCode == 200 {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("answer breaks off: %v", err)
	}
	return resp, string(body)
}

// rest reads until the server ends the connection.
func (c *client) rest() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("the connection did not end in order: %v (after %q)", err, b)
	}
	return string(b)
}

func basic(token string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("step:"+token)) + "\r\n"
}

var good = basic("good")

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
