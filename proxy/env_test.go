package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXBheWxvYWQ.c2lnbmF0dXJl"

// env is a gate with small memory versions of everything around it, each with
// switches for what can go wrong. trace is the order in which they were called.
type env struct {
	mu    sync.Mutex
	trace []string

	principal *identity.Principal
	authErr   error

	decision  policy.Decision
	decideErr error
	asked     []*policy.Request

	available   error
	recordErr   error
	recordWait  bool // wait for the context instead of writing
	recorded    []audit.Event
	hold        chan struct{} // each record waits for two of these
	recordAlive []error       // the state of each call's context

	addrs      []netip.Addr
	resolveErr error
	resolved   []string

	decided    []string
	unrecorded []policy.Reason
	closed     []Cause
	wouldClose []Cause

	log    bytes.Buffer
	guard  *Guard
	dialer Dialer
	config func(*Config)
}

func (w *env) step(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, name)
}

func (w *env) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	w.step("authenticate")
	if c.Reveal() != secret && w.authErr == nil {
		return nil, &identity.Error{Problem: identity.CredentialSignature, Detail: "the signature is not the key's"}
	}
	return w.principal, w.authErr
}

func (w *env) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	w.step("decide")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, r)
	return w.decision, w.decideErr
}

func (w *env) AvailableTo(audit.Source) error {
	w.step("available")
	return w.available
}

func (w *env) Record(ctx context.Context, e *audit.Event) error {
	w.step("record")
	if w.recordWait {
		<-ctx.Done()
		return ctx.Err()
	}
	w.mu.Lock()
	hold := w.hold
	w.mu.Unlock()
	if hold != nil {
		<-hold
		<-hold
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recordAlive = append(w.recordAlive, ctx.Err())
	if w.recordErr != nil {
		return w.recordErr
	}
	w.recorded = append(w.recorded, *e)
	return nil
}

func (w *env) Resolve(_ context.Context, _ fair.Subject, host string) ([]netip.Addr, error) {
	w.step("resolve")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resolved = append(w.resolved, host)
	return w.addrs, w.resolveErr
}

func (w *env) Decided(_ policy.Action, v policy.Verdict, r policy.Reason, would bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := v.String() + " " + string(r)
	if would {
		s += " would_deny"
	}
	w.decided = append(w.decided, s)
}

func (w *env) Stage(string, time.Duration) {}

func (w *env) Closed(_ policy.Action, c Cause, _, _ int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = append(w.closed, c)
}

func (w *env) WouldClose(c Cause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wouldClose = append(w.wouldClose, c)
}

func (w *env) Unrecorded(r policy.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unrecorded = append(w.unrecorded, r)
}

func (w *env) events() []audit.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.recorded)
}

func (w *env) gate(t testing.TB) *Gate {
	t.Helper()
	c := Config{Authenticator: w, Decider: w, Recorder: w, Resolver: w, Guard: w.guard, Dialer: w.dialer,
		Observer: w, Log: slog.New(slog.NewTextHandler(&locked{mu: &w.mu, w: &w.log}, nil))}
	if w.config != nil {
		w.config(&c)
	}
	g, err := NewGate(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// locked serializes a writer with the rest of the environment.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func newEnv() *env {
	return &env{
		guard: &Guard{},
		principal: &identity.Principal{
			Kind: identity.KindBitbucketStep, Issuer: "https://issuer.example", CredentialKind: identity.CredentialOIDC,
			Workspace:  identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d", Slug: "acme"},
			Repository: identity.Repository{UUID: "1ed0f9b3-15e9-4b2b-9a5f-4c8b5a7f1b11", FullName: "acme/payments", Project: "PAY"},
			Deployment: &identity.Deployment{UUID: "f1b6d5a1-9b5a-4d0c-8f6e-2f3f0f7e4a55", Name: "Production EU", Slug: "production-eu", Type: "production"},
			Pipeline:   identity.Run{UUID: "b3c8e6b1-5b0a-4a3e-8b0a-6a5f2f5d9e01"},
			Step:       identity.Run{UUID: "0d5f0f4e-7f8f-4a43-b6a4-0f5b9f0b7c02"},
			Branch:     "main",
		},
		decision: policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "partner-api",
			Rules: []string{"partner-api", "other"}, Message: "the author's word", Input: []byte(`{"action":"connect"}`),
			Revision: policy.Revision{Digest: "sha256:feed", Commit: "c0ffee"}},
		addrs: []netip.Addr{netip.MustParseAddr("93.184.216.34")},
	}
}

func attempt(target string) Attempt {
	return Attempt{Action: policy.Connect, Target: target, Listener: "plain",
		Client: netip.MustParseAddrPort("198.51.100.7:40000"), Credential: identity.NewCredential(secret)}
}
