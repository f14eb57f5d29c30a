package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// ClientConfig configures a [Client].
type ClientConfig struct {
	Server string // URL of the gateway's webhook listener: https, or http on loopback
	// Credential returns the present credential. It is called for each request.
	Credential func() (string, error)
	Wait       time.Duration  // of a claim; 0: 25 s, below the idle timeouts of common load balancers
	RootCAs    *x509.CertPool // nil: those of the system
}

// Client is a [webhook.Store] over the agents' protocol: the tasks of the credential's
// endpoint. It is safe for concurrent use.
type Client struct {
	base       string
	credential func() (string, error)
	wait       time.Duration
	transport  *http.Transport

	endpoint atomic.Pointer[string] // of the credential, as the gateway names it

	mu     sync.Mutex
	last   int64
	leases map[int64]string // by the ID that this client gave the task; an entry ends with its lease
}

var _ webhook.Store = (*Client)(nil)

// NewClient returns a client that has not connected. The caller must call [Client.Close].
func NewClient(c ClientConfig) (*Client, error) {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("agent: --server is not a URL: write https://host:port")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("agent: --server is not https: the credential would be sent unencrypted: write https://host:port")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, errors.New("agent: --server has more than scheme, host and port: write https://host:port")
	case c.Credential == nil:
		return nil, errors.New("agent: there is no credential")
	}
	if c.Wait == 0 {
		c.Wait = 25 * time.Second
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // the way out of a private network
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        time.Minute,
		ForceAttemptHTTP2:      true,
	}
	return &Client{base: u.Scheme + "://" + u.Host + Prefix, credential: c.Credential, wait: min(c.Wait, maxWait), transport: t, leases: map[int64]string{}}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Endpoint returns the name of the credential's endpoint, for the log. Until the gateway has
// accepted the credential, the text states that it is not known.
func (c *Client) Endpoint() string {
	if name := c.endpoint.Load(); name != nil {
		return *name
	}
	return "not known yet"
}

// readEndpoint keeps the name of the endpoint in a response of the gateway.
func (c *Client) readEndpoint(h http.Header) {
	if name := h.Get(endpointField); name != "" && len(name) <= maxEndpointName && printable.IsClean(name) {
		c.endpoint.Store(&name)
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Claim waits for tasks of the credential's endpoint. The name of the endpoint and the lease
// are the gateway's, whatever is given here.
func (c *Client) Claim(ctx context.Context, endpoint string, n int, _ time.Duration) ([]webhook.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait+30*time.Second)
	defer cancel()
	text, err := c.post(ctx, "claim", claimRequest{min(n, maxTasks), int(c.wait.Seconds())})
	if err != nil || len(text) == 0 {
		return nil, err
	}
	list, err := readTasks(text)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tasks := make([]webhook.Task, len(list))
	for i, t := range list {
		c.last++
		c.leases[c.last] = t.Lease
		tasks[i] = webhook.Task{
			ID: c.last, Delivery: t.Delivery, Action: webhook.Forward, Endpoint: endpoint, Attempt: t.Attempt, Received: t.Received,
			Receiver: t.Receiver, Event: t.Event, Repository: t.Repository, Header: t.Header, Body: t.Body,
		}
	}
	return tasks, nil
}

// readTasks reads the response to a claim.
func readTasks(text []byte) ([]task, error) {
	var response claimResponse
	if err := json.Unmarshal(text, &response); err != nil {
		return nil, fmt.Errorf("agent: the gateway's response is not one of the protocol: %w", err)
	}
	if len(response.Tasks) > maxTasks {
		return nil, errors.New("agent: the gateway's response has too many tasks")
	}
	for _, t := range response.Tasks {
		if t.Lease == "" || t.Attempt < 1 || !uuid.IsCanonical(t.Delivery) || t.Body == nil {
			return nil, errors.New("agent: a task of the gateway's response has no lease, attempt, delivery or body")
		}
	}
	return response.Tasks, nil
}

// Extend implements [webhook.Store]. The lease's duration is the gateway's.
func (c *Client) Extend(ctx context.Context, t webhook.Task, _ time.Duration) error {
	return c.acknowledge(ctx, "extend", t, leaseRequest{})
}

// Done implements [webhook.Store].
func (c *Client) Done(ctx context.Context, t webhook.Task, r webhook.TaskResult) error {
	return c.acknowledge(ctx, "done", t, leaseRequest{Status: r.Status, DurationMS: min(r.Duration, time.Hour).Milliseconds()})
}

// Retry implements [webhook.Store]. The pause is sent, and not the time: the clocks of the
// agent and of the gateway may differ.
func (c *Client) Retry(ctx context.Context, t webhook.Task, at time.Time, cause string) error {
	after := min(max(0, time.Until(at)), time.Hour)
	return c.acknowledge(ctx, "retry", t, leaseRequest{AfterMS: after.Milliseconds(), Cause: cause})
}

// Release implements [webhook.Store].
func (c *Client) Release(ctx context.Context, t webhook.Task) error {
	return c.acknowledge(ctx, "release", t, leaseRequest{})
}

// Dead implements [webhook.Store].
func (c *Client) Dead(ctx context.Context, t webhook.Task, cause string) error {
	return c.acknowledge(ctx, "dead", t, leaseRequest{Cause: cause})
}

// Wake implements [webhook.Store]: claims wait at the gateway, so that nothing is announced.
func (c *Client) Wake(ctx context.Context) <-chan string {
	never := make(chan string)
	context.AfterFunc(ctx, func() { close(never) })
	return never
}

// connectRemedy ends the error of a connection to the gateway that failed.
func connectRemedy(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return ": name the authority of the gateway's certificate with --ca-file"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return ": use a name of the gateway's certificate in --server"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ": compare --server with webhooks.listener, and start the gateway"
	}
	return ""
}

// statusError is a response that is not a success.
type statusError struct {
	operation string
	status    int
	text      string // quoted
}

func (e *statusError) Error() string {
	return fmt.Sprintf("agent: %s: the gateway responded with status %d: %s", e.operation, e.status, e.text)
}

func (c *Client) acknowledge(ctx context.Context, operation string, t webhook.Task, r leaseRequest) error {
	c.mu.Lock()
	lease, held := c.leases[t.ID]
	c.mu.Unlock()
	if !held {
		return fmt.Errorf("agent: %s: %w", operation, webhook.ErrLeaseLost)
	}
	r.Lease = lease
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := c.post(ctx, operation, r)
	if refused, ok := errors.AsType[*statusError](err); ok && refused.status < 500 && refused.status != http.StatusTooManyRequests {
		// A lease of another credential, or of one that was revoked: it never succeeds.
		err = fmt.Errorf("%w: %w", err, webhook.ErrLeaseLost)
	}
	if errors.Is(err, webhook.ErrLeaseLost) || err == nil && operation != "extend" {
		c.mu.Lock()
		delete(c.leases, t.ID)
		c.mu.Unlock()
	}
	return err
}

// post makes one request and returns the body of the response. Errors contain neither the
// credential nor more than 200 bytes of the response.
func (c *Client) post(ctx context.Context, operation string, request any) ([]byte, error) {
	credential, err := c.credential()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := CheckCredential(credential); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	req.Header.Set("Content-Type", "application/json")
	// RoundTrip follows no redirect: the credential is for this server only.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("agent: %s: %w%s", operation, err, connectRemedy(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection, whose reads do not end with ctx
		return nil, &statusError{operation, resp.StatusCode, "not a response of the protocol"}
	}
	c.readEndpoint(resp.Header)
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("agent: %s: read response: %w", operation, err)
	case len(text) > maxResponse:
		return nil, fmt.Errorf("agent: %s: the response is too large", operation)
	case resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent:
		return text, nil
	case resp.StatusCode == http.StatusConflict:
		return nil, fmt.Errorf("agent: %s: %w", operation, webhook.ErrLeaseLost)
	}
	refused := &statusError{operation, resp.StatusCode, printable.Quote(string(text))}
	if resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(c.base, "http:") {
		return nil, fmt.Errorf("%w: the listener may have TLS: write https:// in --server", refused)
	}
	return nil, refused
}
