package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// Endpoint is one endpoint whose deliveries agents fetch.
type Endpoint struct {
	Name     string
	RetryFor time.Duration    // from the receipt of a delivery; 0: 24 h
	Signer   *dispatch.Signer // nil: deliveries keep Bitbucket's signature only
}

// ServerConfig configures a [Server].
type ServerConfig struct {
	Store       webhook.Store
	Credentials Credentials
	Endpoints   []Endpoint
	Lease       time.Duration // of a claimed task; 0: 60 s
	// ConnectionClosed returns a channel that is closed with the connection of a request, by
	// the request's context. Nil, or a nil channel: it is not known.
	ConnectionClosed func(context.Context) <-chan struct{}
	// Verified is called with the context of a request whose credential is valid; nil: never
	// called.
	Verified func(context.Context)
	Observer dispatch.Observer // nil: none
	Log      *slog.Logger      // nil: none
}

// Server is the HTTP handler of the agents' protocol. It is safe for concurrent use.
type Server struct {
	c         ServerConfig
	endpoints map[string]*queue
	failures  failures
	holds     *holds
	stop      chan struct{}
	once      sync.Once
}

// NewServer returns a server. [Server.Run] has to run for long polls to end early.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Store == nil || c.Credentials == nil {
		return nil, errors.New("agent server: there is no store or no credentials")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Lease = cmp.Or(c.Lease, time.Minute)
	s := &Server{c: c, endpoints: make(map[string]*queue, len(c.Endpoints)), holds: newHolds(), stop: make(chan struct{})}
	for _, e := range c.Endpoints {
		if e.Name == "" || s.endpoints[e.Name] != nil {
			return nil, fmt.Errorf("agent server: endpoint %q has no name, or a name twice", e.Name)
		}
		e.RetryFor = cmp.Or(e.RetryFor, 24*time.Hour)
		s.endpoints[e.Name] = &queue{endpoint: e, polls: make(chan struct{}, maxPolls), woken: make(chan struct{})}
	}
	return s, nil
}

// Run wakes long polls until ctx ends, and then ends them.
func (s *Server) Run(ctx context.Context) {
	defer s.Stop()
	for name := range s.c.Store.Wake(ctx) {
		if q := s.endpoints[name]; q != nil {
			q.wake()
		}
	}
}

// Stop ends all long polls. Acknowledgements are still accepted.
func (s *Server) Stop() { s.once.Do(func() { close(s.stop) }) }

// refusal is an error with the status and text of its response.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

var (
	errInvalidCredential = &refusal{http.StatusUnauthorized, "not a valid agent credential: create one with `sallyport webhook agent-credential create`"}
	errTooManyFailures   = &refusal{http.StatusTooManyRequests, "too many requests with a credential that is not valid"}
	errStore             = &refusal{http.StatusServiceUnavailable, "the database is unavailable: try again"}
	errEndpoint          = &refusal{http.StatusForbidden, "the credential's endpoint is not configured with agent: true"}
)

// ServeHTTP answers one request. The path and the body are read only after the credential
// was verified.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	c, err := s.authenticate(r)
	if err == nil {
		w.Header().Set(endpointField, c.Endpoint)
		if s.c.Verified != nil {
			s.c.Verified(r.Context())
		}
		end := s.holds.begin(c.ID)
		defer end()
		err = s.serve(w, r, c)
	}
	if err == nil {
		return
	}
	answer, ok := errors.AsType[*refusal](err)
	if !ok {
		s.c.Log.Error("agent request failed", "path", r.URL.Path, "error", err)
		answer = errStore
	}
	switch answer.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="sallyport"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.text+"\n")
}

// authenticate returns the credential of a request.
func (s *Server) authenticate(r *http.Request) (Credential, error) {
	text := ""
	if values := r.Header.Values("Authorization"); len(values) == 1 {
		scheme, value, _ := strings.Cut(values[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			text = value
		}
	}
	from, digest, now := source(r), sha256.Sum256([]byte(text)), time.Now()
	if !s.failures.allows(from, digest, now) {
		return Credential{}, errTooManyFailures
	}
	if s.failures.isRejected(digest, now) {
		s.failures.failed(from, digest, now, true)
		return Credential{}, errInvalidCredential
	}
	c, err := find(r.Context(), s.c.Credentials, text)
	switch {
	case errors.Is(err, ErrCredential):
		s.failures.failed(from, digest, now, !errors.Is(err, errUnknownID))
		return Credential{}, errInvalidCredential
	case err != nil:
		return Credential{}, fmt.Errorf("find credential: %w", err)
	}
	s.failures.succeeded(digest, now)
	s.c.Credentials.Used(r.Context(), c.ID)
	return c, nil
}

// serve carries out an authenticated request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c Credential) error {
	operation, ok := strings.CutPrefix(r.URL.Path, Prefix)
	act := operations[operation]
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case !ok || act == nil && operation != "claim":
		return &refusal{http.StatusNotFound, "not an operation of the protocol"}
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return &refusal{http.StatusMethodNotAllowed, "POST only"}
	case err != nil || media != "application/json":
		return &refusal{http.StatusUnsupportedMediaType, "application/json only"}
	}
	q := s.endpoints[c.Endpoint]
	if q == nil {
		return errEndpoint
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(10 * time.Second)) // httptest.ResponseRecorder has none
	body := http.MaxBytesReader(w, r.Body, maxRequest)
	if operation == "claim" {
		var request claimRequest
		if err := decode(body, &request); err != nil {
			return &refusal{http.StatusBadRequest, err.Error()}
		}
		return s.claim(w, r, c, q, request)
	}
	var request leaseRequest
	if err := decode(body, &request); err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	t, err := open(c.LeaseKey, c.Endpoint, request.Lease)
	if err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	// A client that disconnects does not cancel its acknowledgement.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 20*time.Second)
	defer cancel()
	if err = act(ctx, s, q, t, request); err == nil && operation == "extend" {
		s.holds.extend(t, time.Now().Add(s.c.Lease))
	} else {
		s.holds.acknowledged(t, err)
	}
	if err != nil {
		return err
	}
	q.wake() // the next task of the stream may be claimed
	w.WriteHeader(http.StatusNoContent)
	return nil
}
