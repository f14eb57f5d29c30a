package bitbucket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 3

// client fetches documents from issuers and APIs: GET only, bounded in size and
// by its caller's context in time, and never led away from the host that the
// configuration names.
type client struct {
	http *http.Client
	now  func() time.Time
}

// NewTransport returns the transport that is used where [Deps] has none. It takes no
// proxy from the environment: in a proxy's own environment such a variable often
// points at the proxy itself.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// newClient returns a client over a transport.
func newClient(transport http.RoundTripper, now func() time.Time) *client {
	if transport == nil {
		transport = NewTransport()
	}
	return &client{now: now, http: &http.Client{Transport: transport, CheckRedirect: sameHost}}
}

// sameHost follows a redirect only where it stays on the host that was asked:
// the request may carry an access token, and the answer may become keys.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if next.URL.Scheme != via[0].URL.Scheme || next.URL.Host != via[0].URL.Host {
		return fmt.Errorf("redirected to another host, %s, which is not followed", quote(next.URL.Host))
	}
	return nil
}

// statusError is an answer other than 200.
type statusError struct {
	status     int
	retryAfter time.Duration // zero: not said
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("answered %d %s", e.status, http.StatusText(e.status))
	if e.retryAfter > 0 {
		text += fmt.Sprintf(", to be asked again in %v", e.retryAfter)
	}
	return text
}

// get fetches one document. The bearer token may be empty.
func (c *client) get(ctx context.Context, address, bearer string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the address is not a URL")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err // names the method and URL
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		// Read a little so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, response.Body, 16<<10)
		return nil, fmt.Errorf("GET %s: %w", address, &statusError{response.StatusCode, c.retryAfter(response.Header)})
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: read the answer: %w", address, err)
	}
	if len(body) > maxDocumentBytes {
		return nil, fmt.Errorf("GET %s: the answer has more than %d bytes", address, maxDocumentBytes)
	}
	return body, nil
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func (c *client) retryAfter(h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(n, 0), 24*3600)) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(0, t.Sub(c.now())), 24*time.Hour)
	}
	return 0
}

// onHost reports whether an address is on the same scheme and host as another.
func onHost(address, other string) bool {
	a, err := url.Parse(address)
	if err != nil {
		return false
	}
	b, err := url.Parse(other)
	return err == nil && a.Scheme == b.Scheme && a.Host == b.Host && a.User == nil
}
