// Package steptest runs Sallyport's real listener, gate and forwarding for the tests of
// the step's side, with credentials, decisions and names in memory.
package steptest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/frontend"
	"github.com/sallyport/sallyport/proxy/goproxy"
)

// Token is the credential that every server accepts at first.
const Token = "eyJhbGciOiJSUzI1NiJ9.c3RlcC10b2tlbi1vZi10aGUtdGVzdHM.c2lnbmF0dXJl"

// Denied and Unmatched are hosts that the policy denies. All other names lead to 127.0.0.1.
const (
	Denied    = "denied.test"
	Unmatched = "unmatched.test"
)

// Server is a running Sallyport with a TLS listener.
type Server struct {
	t testing.TB

	URL    string // https://127.X.Y.Z:PORT
	CAFile string // of the authority that signed its certificate

	address     string
	certificate tls.Certificate
	plain       bool

	mu       sync.Mutex
	valid    map[string]bool // tokens
	expired  map[string]bool
	protocol policy.Protocol
	requests []*policy.Request
	gate     *proxy.Gate
	forward  *goproxy.Forwarder
	server   *frontend.Server
	served   chan error
}

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server { return start(t, false) }

// StartPlain is Start with a listener without TLS.
func StartPlain(t testing.TB) *Server { return start(t, true) }

func start(t testing.TB, plain bool) *Server {
	t.Helper()
	// An address of its own: after a restart, no other socket has the port.
	host := fmt.Sprintf("127.%d.%d.%d", 64+rand.N(128), rand.N(256), 1+rand.N(254))
	s := &Server{t: t, valid: map[string]bool{Token: true}, expired: map[string]bool{}, protocol: policy.ProtocolAny, address: host + ":0", plain: plain}
	s.certificate, s.CAFile = Certificate(t, host)
	s.Restart()
	s.URL = "https://" + s.address
	if plain {
		s.URL = "http://" + s.address
	}
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server, after Stop on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	var err error
	s.gate, err = proxy.NewGate(proxy.Config{Authenticator: s, Decider: s, Recorder: s, Resolver: s,
		Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, RefusedPerSecond: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	tracker := proxy.NewTracker(proxy.TunnelConfig{})
	s.forward = goproxy.New(goproxy.Config{Tracker: tracker})
	s.server, err = frontend.New(frontend.Config{Gate: s.gate, Tracker: tracker, Forwarder: s.forward, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	lc := frontend.ListenerConfig{Name: "step"}
	if !s.plain {
		lc.TLS = &tls.Config{Certificates: []tls.Certificate{s.certificate}}
	}
	s.served = make(chan error, 1)
	server, served := s.server, s.served
	go func() { served <- server.Serve(l, lc) }()
}

// Stop closes all connections and the listener.
func (s *Server) Stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = s.server.Shutdown(ctx)
	<-s.served
	s.forward.Close()
	s.server = nil
}

// CloseAdmission makes the server refuse every request with shutting_down.
func (s *Server) CloseAdmission() { s.gate.CloseAdmission() }

// Accept and Expire change how a token is judged.
func (s *Server) Accept(token string) { s.set(s.valid, token) }

// Expire makes a token an expired one.
func (s *Server) Expire(token string) { s.set(s.expired, token) }

// RequireTLS makes the policy require TLS inside tunnels.
func (s *Server) RequireTLS() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protocol = policy.ProtocolTLS
}

func (s *Server) set(m map[string]bool, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m[token] = true
}

// Decisions returns how many requests the policy decided.
func (s *Server) Decisions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// Authenticate implements [proxy.Authenticator].
func (s *Server) Authenticate(_ context.Context, c identity.Credential) (*identity.Principal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch token := c.Reveal(); {
	case s.expired[token]:
		return nil, &identity.Error{Problem: identity.CredentialExpired, Detail: "the token has expired"}
	case !s.valid[token]:
		return nil, &identity.Error{Problem: identity.CredentialSignature, Detail: "the signature is not the key's"}
	}
	return &identity.Principal{Kind: identity.KindBitbucketStep, Issuer: "https://issuer.test",
		Step: identity.Run{UUID: "step-1"}, CredentialKind: identity.CredentialOIDC, CredentialDigest: c.Digest()}, nil
}

// Decide implements [proxy.Decider].
func (s *Server) Decide(_ context.Context, r *policy.Request) (policy.Decision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	switch r.Target.Host {
	case Denied:
		return policy.Decision{Reason: policy.PolicyDenied, Rule: "no-denied", Message: "ask \x1b[31mthem\r\nInjected: yes"}, nil
	case Unmatched:
		return policy.Decision{Reason: policy.NoRuleMatched}, nil
	}
	return policy.Decision{Verdict: policy.Allow, Reason: policy.PolicyAllowed, Rule: "test-allow", Address: true, Protocol: s.protocol}, nil
}

// Record implements [proxy.Recorder].
func (s *Server) Record(context.Context, *audit.Event) error { return nil }

// AvailableTo implements [proxy.Recorder].
func (s *Server) AvailableTo(audit.Source) error { return nil }

// Resolve implements [proxy.Resolver].
func (s *Server) Resolve(_ context.Context, _ fair.Subject, host string) ([]netip.Addr, error) {
	if host == "unresolved.test" {
		return nil, errors.New("no such name")
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// Certificate returns a certificate for an address, signed by an authority of its own, and
// the authority's file.
func Certificate(t testing.TB, host string) (tls.Certificate, string) {
	t.Helper()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of " + host}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	authorityDER, err := x509.CreateCertificate(cryptorand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
