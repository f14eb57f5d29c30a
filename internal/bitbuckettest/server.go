// Package bitbuckettest is an emulated Bitbucket Cloud, as far as an egress
// proxy sees it: one OpenID Connect issuer per workspace, with discovery, keys
// and rotation; the part of REST 2.0 that turns UUIDs into names; tokens of
// any step, honest or hostile; Git repositories and webhooks, whose deliveries are
// also those of Data Center; and faults on demand.
//
// Tests and the demo use it, so it does not import package testing. It is
// written from what Atlassian publishes (the OpenAPI document of REST 2.0, the
// pages on OpenID Connect in Pipelines and on API request limits) and from what
// public relying parties do. Where Bitbucket's behavior is not known, it is
// either a switch (one audience as a string or as an array, the counts of a
// page) or the form that is harder on the client.
//
// The model is made by methods: [Server.AddWorkspace], [Workspace.AddRepository],
// [Repository.AddEnvironment], [Repository.Run], [Pipeline.Step], [Step.Token].
// They panic when they are misused (a name that exists already, an unknown type of
// environment), for that is a mistake of the program that calls them. All
// methods may be called from several goroutines, also while the server serves.
// UUIDs are bare and lower-case in Go; in tokens, paths and JSON they wear
// Bitbucket's braces.
package bitbuckettest

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/uuid"
)

// Options configure a [Server]. The zero value is a plain HTTP server
// with random UUIDs.
type Options struct {
	// Seed makes UUIDs and key ids the same in every run that creates the same
	// things in the same order; 0 means random. Keys are always random.
	Seed uint64

	// Now is the clock of tokens and timestamps; nil means time.Now.
	Now func() time.Time

	// TLS makes Start serve HTTPS with a certificate of an authority of the
	// server's own (see [Server.CAPEM]).
	TLS bool

	// BaseURL is the scheme and host under which clients see the server, such
	// as "https://api.bitbucket.org". Empty means what Start listens on. Its
	// scheme must fit TLS. It is needed where the Server is used as a Handler
	// without Start, and for StartInMemory.
	BaseURL string

	// HookRoots are the authorities that webhooks accept a receiver's certificate from; nil
	// means the system's.
	HookRoots *x509.CertPool
}

// New returns a server without workspaces that does not serve yet. It fails on
// a BaseURL that is not scheme://host or does not fit TLS.
func New(o Options) (*Server, error) {
	s := &Server{now: o.Now, random: rand.Reader, tokens: map[string]accessToken{}, hookRoots: o.HookRoots}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Seed != 0 {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], o.Seed)
		s.random = mathrand.NewChaCha8(seed)
	}
	s.journal.changed = make(chan struct{})
	scheme := "http"
	if o.TLS {
		scheme = "https"
	}
	host := ""
	if o.BaseURL != "" {
		u, err := url.Parse(o.BaseURL)
		if err != nil {
			return nil, fmt.Errorf("bitbuckettest: base URL: %w", err)
		}
		if u.Scheme != scheme || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("bitbuckettest: base URL %q must be %s://host without a path", o.BaseURL, scheme)
		}
		host = u.Host
	}
	if err := s.network.prepare(scheme, host, o.TLS); err != nil {
		return nil, err
	}
	return s, nil
}

// BaseURL returns the scheme and host under which clients see the server,
// without a trailing slash. It panics when that is not known yet: Options had
// no BaseURL and Start was not called.
func (s *Server) BaseURL() string {
	base := s.network.baseURL()
	if base == "" {
		panic("bitbuckettest: the base URL is not known before Start")
	}
	return base
}

// APIURL returns the base of REST 2.0, such as "http://127.0.0.1:4711/2.0".
func (s *Server) APIURL() string { return s.BaseURL() + "/2.0" }

// Workspace returns the workspace that has this slug now, or nil.
func (s *Server) Workspace(slug string) *Workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workspace(slug)
}

func (s *Server) workspace(slug string) *Workspace {
	i := slices.IndexFunc(s.workspaces, func(w *Workspace) bool { return w.slug == slug })
	if i < 0 {
		return nil
	}
	return s.workspaces[i]
}

// SetBarePages sets whether pages of lists contain only values and next,
// which is all that Bitbucket guarantees (REST 2.0, Pagination). The default is
// false: size, page, pagelen and previous are there too.
func (s *Server) SetBarePages(bare bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barePages = bare
}

// newUUID returns a random UUID (RFC 9562, version 4), bare. The caller holds mu.
func (s *Server) newUUID() string { return uuid.NewV4From(s.random) }

// Braced returns a bare UUID as Bitbucket writes it, in curly braces.
func Braced(uuid string) string { return "{" + uuid + "}" }
