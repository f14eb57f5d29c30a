package bitbucketapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	requestsPerHour = 900
	apiBurst        = 60

	// MinBackoff and MaxBackoff bound the pause after a failed request.
	MinBackoff = time.Second
	MaxBackoff = time.Minute
)

// Config is the REST API of a workspace.
type Config struct {
	URL string // such as https://api.bitbucket.org/2.0
	// Token returns the workspace access token (scopes repository and pipeline). Each
	// request calls it, so that a token in a file can be rotated while the process
	// runs. It must be safe for concurrent use.
	Token func() (string, error)
	// RequestsPerHour bounds the requests; zero means 900, because Bitbucket allows
	// 1,000 to an authenticated client.
	RequestsPerHour int
}

// Validate returns everything that is wrong with the configuration.
func (c *Config) Validate() []error {
	var errs []error
	if _, err := ParseURL(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("api: %w", err))
	}
	if c.Token == nil {
		errs = append(errs, errors.New("api: it has no access token"))
	}
	if c.RequestsPerHour < 0 {
		errs = append(errs, fmt.Errorf("api: requests per hour are %d, they must be positive", c.RequestsPerHour))
	}
	return errs
}

// Observer receives the outcome of each request: its subject, its duration and its
// error. A 404 is not an error. It must be safe for concurrent use.
type Observer func(subject string, duration time.Duration, err error)

// Client sends requests to the REST API of one workspace, within a budget of requests
// and the pauses that 429 and 5xx demand. It is safe for concurrent use.
type Client struct {
	http      *HTTP
	config    Config
	workspace string // UUID
	now       func() time.Time
	observe   Observer

	mu       sync.Mutex
	budget   Bucket
	blocked  time.Time
	failures int
	failure  error // why it is blocked
	state    State
}

// State is the state of a client.
type State struct {
	Err       error     // of the latest request; nil for a 404
	Succeeded time.Time // when the API last returned a valid response; zero: never
}

// New returns a client for the workspace of a bare, lower-case UUID. The configuration
// is valid.
func New(h *HTTP, c Config, workspaceUUID string, observe Observer) *Client {
	if c.RequestsPerHour == 0 {
		c.RequestsPerHour = requestsPerHour
	}
	perHour := c.RequestsPerHour
	return &Client{
		http: h, config: c, workspace: workspaceUUID, now: h.now, observe: observe,
		budget: NewBucket(min(apiBurst, float64(perHour)), time.Hour/time.Duration(perHour)),
	}
}

// WorkspaceUUID returns the workspace, bare and lower-case.
func (c *Client) WorkspaceUUID() string { return c.workspace }

// Now returns the time of the client's clock.
func (c *Client) Now() time.Time { return c.now() }

// State returns the outcome of the latest request.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// RepositoryShare returns a new bucket with the share of the budget that one
// repository may use: half.
func (c *Client) RepositoryShare() Bucket {
	return NewBucket(max(1, c.budget.size/2), 2*c.budget.interval)
}

// Get sends one request, if the budget permits it. A request in the background leaves
// half of the budget to the requests that a step waits for. The error wraps [ErrBusy]
// if nothing was sent.
func (c *Client) Get(ctx context.Context, subject, address string, background bool) ([]byte, error) {
	begun := c.now()
	if err := c.spend(begun, background); err != nil {
		return nil, err
	}
	bearer, err := c.token()
	var body []byte
	if err == nil {
		body, err = c.http.Get(ctx, address, bearer)
	}
	c.record(err)
	failure := err
	if IsNotFound(err) {
		failure = nil
	}
	c.observe(subject, c.now().Sub(begun), failure)
	return body, err
}

// spend takes one request from the budget.
func (c *Client) spend(now time.Time, background bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := 1.0
	if background {
		keep = max(1, c.budget.size/2)
	}
	switch {
	case now.Before(c.blocked):
		return fmt.Errorf("%w, until %s: %w", ErrBusy, c.blocked.UTC().Format(time.RFC3339), c.failure)
	case !c.budget.Take(now, keep):
		return fmt.Errorf("%w: the budget of requests is used up", ErrBusy)
	}
	return nil
}

func (c *Client) token() (string, error) {
	bearer, err := c.config.Token()
	if err != nil {
		return "", fmt.Errorf("read the access token of the API: %w", err)
	}
	return bearer, nil
}

// record applies the outcome of a request. 429, 5xx, an unreachable API and a rejected
// access token block every request for a while. Other statuses concern one object only.
func (c *Client) record(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Err = err
	if err == nil || IsNotFound(err) {
		c.state = State{Succeeded: c.now()}
	}
	answer, ok := errors.AsType[*StatusError](err)
	if err == nil || ok && answer.Status != http.StatusUnauthorized && answer.Status != http.StatusTooManyRequests && answer.Status < 500 {
		c.failures = 0
		return
	}
	wait := min(MaxBackoff, MinBackoff<<min(c.failures, 6))
	if ok {
		wait = max(wait, min(answer.RetryAfter, time.Hour))
	}
	c.failures++
	c.failure = err
	if until := c.now().Add(wait); until.After(c.blocked) {
		c.blocked = until
	}
}

// Blocked returns how long no request will be sent.
func (c *Client) Blocked() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, c.blocked.Sub(c.now()))
}

// URL returns the address of a path below the API's URL. Bitbucket requires UUIDs in
// braces, and answers a raw brace with 400: the segments are percent-encoded.
func (c *Client) URL(segments ...string) string {
	var b strings.Builder
	b.WriteString(c.config.URL)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// RepositoryURL returns the address of a path below a repository of the workspace. The
// repository is a slug, or a UUID in braces.
func (c *Client) RepositoryURL(repository string, segments ...string) string {
	return c.URL(append([]string{"repositories", Braced(c.workspace), repository}, segments...)...)
}

// IsOwn reports whether an address is on the API's own host.
func (c *Client) IsOwn(address string) bool { return SameHost(address, c.config.URL) }

// Braced returns a bare UUID in braces.
func Braced(uuid string) string { return "{" + uuid + "}" }
