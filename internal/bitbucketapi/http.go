package bitbucketapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
)

const (
	// MaxDocumentBytes bounds a response.
	MaxDocumentBytes = 1 << 20

	maxRedirects = 3
	userAgent    = "sallyport"
)

// HTTP fetches documents from issuers and APIs: GET only, bounded in size, and never
// redirected to another host. Its caller's context bounds the time. It is safe for
// concurrent use.
type HTTP struct {
	http *http.Client
	now  func() time.Time
}

// NewTransport returns the default transport. It uses no proxy from the environment: in
// a proxy's own environment such a variable often names the proxy itself.
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

// NewHTTP returns a client over a transport; nil is [NewTransport].
func NewHTTP(transport http.RoundTripper, now func() time.Time) *HTTP {
	if transport == nil {
		transport = NewTransport()
	}
	return &HTTP{now: now, http: &http.Client{Transport: transport, CheckRedirect: sameHostOnly}}
}

// sameHostOnly follows a redirect only on the host of the request: the request may
// carry an access token, and the response may become keys.
func sameHostOnly(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if next.URL.Scheme != via[0].URL.Scheme || next.URL.Host != via[0].URL.Host {
		return fmt.Errorf("redirected to another host, %s, which is not followed", printable.Quote(next.URL.Host))
	}
	return nil
}

// CloseIdleConnections closes the connections that no request uses.
func (h *HTTP) CloseIdleConnections() { h.http.CloseIdleConnections() }

// Get fetches one document. An empty bearer sends no credential. A response with a
// status other than 200 is a [*StatusError].
func (h *HTTP) Get(ctx context.Context, address, bearer string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the address is not a URL")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := h.http.Do(request)
	if err != nil {
		return nil, err // names the method and URL
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		// Read a little so that the connection can be used again. After 101 the body is the
		// connection, whose reads do not end with ctx.
		if response.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.CopyN(io.Discard, response.Body, 16<<10)
		}
		return nil, fmt.Errorf("GET %s: %w", address, &StatusError{response.StatusCode, h.retryAfter(response.Header)})
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("GET %s: read the response: %w", address, err)
	}
	if len(body) > MaxDocumentBytes {
		return nil, fmt.Errorf("GET %s: the response has more than %d bytes", address, MaxDocumentBytes)
	}
	return body, nil
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func (h *HTTP) retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(n, 0), 24*3600)) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(0, t.Sub(h.now())), 24*time.Hour)
	}
	return 0
}
