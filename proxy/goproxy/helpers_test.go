package goproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper is a memory version of what a gate is plugged into. It allows all.
type keeper struct {
	limits policy.Limits
	mu     sync.Mutex
	events []*audit.Event
}

func (*keeper) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	repository, _, _ := strings.Cut(c.Reveal(), "/")
	return &identity.Principal{Issuer: "https://issuer.test", Repository: identity.Repository{UUID: "repository-" + repository},
		Step: identity.Run{UUID: "step-" + c.Reveal()}, CredentialDigest: c.Digest()}, nil
}

func (k *keeper) Decide(context.Context, *policy.Request) (policy.Decision, error) {
	return policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "test-allow", Limits: k.limits}, nil
}

func (k *keeper) Record(_ context.Context, e *audit.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, e)
	return nil
}

func (*keeper) AvailableTo(audit.Source) error { return nil }

// Resolve gives another.test a second address, so that its pinned set differs.
func (*keeper) Resolve(_ context.Context, _ fair.Subject, host string) ([]netip.Addr, error) {
	list := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if host == "another.test" {
		list = append(list, netip.MustParseAddr("127.0.0.2"))
	}
	return list, nil
}

// last is the end of the latest request.
func (s *env) last(t *testing.T) *audit.Event {
	t.Helper()
	s.gate.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.events[len(s.events)-1]
	if e.Kind != audit.KindRequestClosed {
		t.Fatalf("the last event is %+v", e)
	}
	return e
}

// env is a forwarder with a gate in front of it.
type env struct {
	*keeper
	gate      *proxy.Gate
	forwarder *Forwarder
}

func start(t *testing.T, c Config) *env {
	t.Helper()
	s := &env{keeper: &keeper{}}
	var err error
	s.gate, err = proxy.NewGate(proxy.Config{Authenticator: s, Decider: s, Recorder: s, Resolver: s,
		Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	s.forwarder = New(c)
	t.Cleanup(s.forwarder.Close)
	return s
}

// answer is a response writer in memory that can do what a forwarder needs.
type answer struct {
	header   http.Header
	status   int
	body     strings.Builder
	refusal  *proxy.Refusal
	aborted  bool
	finished bool
	wrote    chan string // receives each write, where it is not nil
	broken   bool        // writes fail
	switched proxy.Stream
	behind   string
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(n int)   { a.status = n }
func (a *answer) Write(p []byte) (int, error) {
	if a.broken {
		return 0, errors.New("the client is gone")
	}
	if a.wrote != nil {
		a.wrote <- string(p)
	}
	return a.body.Write(p)
}
func (a *answer) Flush()                  {}
func (a *answer) Refuse(r *proxy.Refusal) { a.refusal = r }
func (a *answer) Abort()                  { a.aborted = true }
func (a *answer) Finish()                 { a.finished = true }
func (a *answer) Upgrade(conn proxy.Stream, behind []byte) bool {
	a.switched, a.behind = conn, string(behind)
	return !a.broken
}

// admit puts a request through the gate as the step with that token.
func (s *env) admit(t *testing.T, token, target string) *proxy.Admission {
	t.Helper()
	return s.admitMethod(t, token, "GET", target)
}

func (s *env) admitMethod(t *testing.T, token, method, target string) *proxy.Admission {
	t.Helper()
	a, refusal := s.gate.Admit(t.Context(), proxy.Attempt{Action: policy.Forward, Target: target, HTTP: &policy.HTTPRequest{Method: method},
		Client: netip.MustParseAddrPort("127.0.0.1:1"), Credential: identity.NewCredential(token)})
	if refusal != nil {
		t.Fatalf("%+v", refusal)
	}
	return a
}

// do sends one request as the frontend does.
func (s *env) do(t *testing.T, w *answer, method, target string, header http.Header, body string) *answer {
	t.Helper()
	return s.as(t, "one", w, method, target, header, body)
}

func (s *env) as(t *testing.T, token string, w *answer, method, target string, header http.Header, body string) *answer {
	t.Helper()
	if w == nil {
		w = &answer{}
	}
	w.header = http.Header{}
	a := s.admitMethod(t, token, method, target)
	s.forwarder.Forward(w, request(t, a, method, header, body), a)
	return w
}

func request(t *testing.T, a *proxy.Admission, method string, header http.Header, body string) *http.Request {
	t.Helper()
	path, query, _ := strings.Cut(a.Path, "?")
	if header == nil {
		header = http.Header{}
	}
	r := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: a.Target.String(), Path: path, RawQuery: query},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Host: a.Target.String(), Body: http.NoBody}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return r.WithContext(t.Context())
}

// target is a server of ours that sees raw requests. The function is called with
// the number of the request on its connection, from 1, and returns what to
// answer and whether to close.
type target struct {
	*proxytest.Server
	mu       sync.Mutex
	requests []string // head and content
}

func serve(t *testing.T, respond func(n int, r *http.Request) (raw string, end bool)) *target {
	t.Helper()
	s := &target{}
	s.Server = proxytest.Serve(t, func(conn *net.TCPConn) { s.speak(conn, respond) })
	return s
}

func (s *target) speak(conn net.Conn, respond func(int, *http.Request) (string, bool)) {
	in := bufio.NewReader(conn)
	for n := 1; ; n++ {
		var head strings.Builder
		r, err := http.ReadRequest(bufio.NewReaderSize(io.TeeReader(proxytest.OneByOne{Reader: in}, &head), 16))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, head.String())
		s.mu.Unlock()
		raw, end := respond(n, r)
		if _, err := io.WriteString(conn, raw); err != nil || end {
			return
		}
	}
}

func (s *target) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// counter is a target that answers each request, and counts all bytes that it gets.
type counter struct {
	*proxytest.Server
	got atomic.Int64
}

func counting(t *testing.T, answer string) *counter {
	t.Helper()
	c := &counter{}
	c.Server = proxytest.Serve(t, func(conn *net.TCPConn) {
		in := bufio.NewReader(io.TeeReader(conn, countWriter{&c.got}))
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				break
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				break
			}
			_, _ = io.WriteString(conn, answer)
		}
		_, _ = io.Copy(io.Discard, in)
	})
	return c
}

// wait accepts nothing more, and returns how many bytes the target got in all.
func (c *counter) wait() int64 {
	c.Wait()
	return c.got.Load()
}

type countWriter struct{ n *atomic.Int64 }

func (w countWriter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}
