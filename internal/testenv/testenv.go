// Package testenv runs a test environment for one Sallyport on this machine: an
// emulated Bitbucket with a workspace, an upstream that serves every name of a
// small DNS zone, a certificate authority, and a configuration that connects a
// real server to them. The demo and the end-to-end tests share it. Only Bitbucket
// is emulated.
package testenv

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// Audience is what the configured server expects in a token.
const Audience = "https://egress.acme.example"

// AccessToken is what the emulated REST API takes; it opens nothing else.
const AccessToken = "emulated-workspace-access-token"

// Options configure an [Env]. The zero value uses free ports.
type Options struct {
	HTTPSPort int // of the upstream; 0: a free one
	HTTPPort  int
	// Handler answers what reaches the upstream; nil: a line that describes the request.
	Handler http.Handler
	// Seed makes UUIDs the same in every run; 0: random.
	Seed uint64
}

// Env is a running environment. It is safe for concurrent use.
type Env struct {
	Directory string
	Bitbucket *bitbuckettest.Server
	Workspace *bitbuckettest.Workspace // acme
	Payments  *bitbuckettest.Repository
	Website   *bitbuckettest.Repository

	Production *bitbuckettest.Environment // of Payments
	Staging    *bitbuckettest.Environment // of Payments

	CAFile    string // the authority that signed the upstream's certificates, as PEM
	HTTPSPort int
	HTTPPort  int
	DNS       string // host:port of the resolver

	zone      *zone
	authority *authority
	closers   []func()
}

// Start starts the environment, with its files in directory, which must exist.
func Start(directory string, o Options) (_ *Env, err error) {
	s := &Env{Directory: directory, CAFile: filepath.Join(directory, "ca.pem")}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	authority, err := newAuthority()
	if err != nil {
		return nil, err
	}
	s.authority = authority
	if err := os.WriteFile(s.CAFile, authority.pem, 0o644); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.pem)
	if s.Bitbucket, err = bitbuckettest.New(bitbuckettest.Options{Seed: o.Seed, HookRoots: roots}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.Bitbucket.Close)
	if err := s.Bitbucket.Start("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the emulated Bitbucket: %w", err)
	}
	s.populate()

	handler := o.Handler
	if handler == nil {
		handler = http.HandlerFunc(describe)
	}
	if s.HTTPSPort, err = s.serve(o.HTTPSPort, handler, authority); err != nil {
		return nil, fmt.Errorf("start the HTTPS upstream: %w", err)
	}
	if s.HTTPPort, err = s.serve(o.HTTPPort, handler, nil); err != nil {
		return nil, fmt.Errorf("start the HTTP upstream: %w", err)
	}
	zone, err := startZone()
	if err != nil {
		return nil, fmt.Errorf("start the name server: %w", err)
	}
	s.closers = append(s.closers, zone.close)
	s.zone, s.DNS = zone, zone.address
	return s, nil
}

// populate makes the workspace that the policy to start from speaks of.
func (s *Env) populate() {
	s.Workspace = s.Bitbucket.AddWorkspace("acme")
	s.Workspace.SetAccessTokens(AccessToken)
	s.Payments = s.Workspace.AddRepository("payments", "PAY")
	s.Website = s.Workspace.AddRepository("website", "WEB")
	s.Production = s.Payments.AddEnvironment("Production", bitbuckettest.Production)
	s.Staging = s.Payments.AddEnvironment("Staging", bitbuckettest.Staging)
}

// Token is a token for this server, of a step that deploys to environment, or
// of one that deploys nothing if it is nil.
func (s *Env) Token(repository *bitbuckettest.Repository, environment *bitbuckettest.Environment, branch string) string {
	return repository.Run(branch).Step(environment).Token(bitbuckettest.TokenOptions{Audiences: []string{Audience}})
}

// Close ends everything. The files stay.
func (s *Env) Close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *Env) serve(port int, handler http.Handler, authority *authority) (int, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if authority == nil {
			err = server.Serve(l)
		} else {
			server.TLSConfig = authority.config()
			err = server.ServeTLS(l, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("testenv: the upstream ended: %v", err))
		}
	}()
	s.closers = append(s.closers, func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).Port, nil
}

// describe responds with a description of the request.
func describe(w http.ResponseWriter, r *http.Request) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s received %s %s over %s\n", r.Host, r.Method, r.URL.RequestURI(), scheme)
}
