package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// maxResponseBody is how many bytes of a response are read, so that its connection can be
// used again. The status decides; the content is not used.
const maxResponseBody = 64 << 10

// SenderConfig configures a [Sender].
type SenderConfig struct {
	URL string // http or https, without user information and fragment
	// Dial opens connections: the only way to the endpoint.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Timeout time.Duration  // of an attempt, from the dial to the status; 0: 10 s
	Signer  *Signer        // nil: deliveries keep Bitbucket's signature only
	RootCAs *x509.CertPool // nil: those of the system
	// Signed is true for an agent: the gateway has signed the deliveries already, and the
	// header fields of its signature are sent too.
	Signed bool
}

// Sender sends deliveries to one endpoint over HTTP. It is safe for concurrent use.
type Sender struct {
	url       *url.URL
	timeout   time.Duration
	signer    *Signer
	fields    []string // header fields that are sent unchanged
	transport *http.Transport
}

// NewSender returns a sender. Errors do not contain the URL: it may have a secret in its
// query. The caller must call [Sender.Close].
func NewSender(c SenderConfig) (*Sender, error) {
	u, err := ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Dial == nil {
		return nil, errors.New("endpoint: there is no dialer")
	}
	t := &http.Transport{
		Proxy:                  nil, // never the environment's
		DialContext:            c.Dial,
		DisableCompression:     true,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    cmp.Or(c.Timeout, 10*time.Second),
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        4 * time.Second, // common servers close an idle connection after 5 s
		MaxIdleConns:           maxPerEndpoint,
		MaxIdleConnsPerHost:    maxPerEndpoint,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true)
	s := &Sender{url: u, timeout: cmp.Or(c.Timeout, 10*time.Second), signer: c.Signer, fields: forwardedFields, transport: t}
	if c.Signed {
		s.fields = slices.Concat(forwardedFields, signatureFields)
	}
	return s, nil
}

// ParseURL parses the URL of an endpoint. Errors do not contain the URL.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("endpoint url: it does not parse: write https://host/path")
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "":
		return nil, errors.New("endpoint url: the scheme is neither https nor http: write https://host/path")
	case u.Hostname() == "":
		return nil, errors.New("endpoint url: there is no host: write https://host/path")
	case u.User != nil:
		return nil, errors.New("endpoint url: it has user information: remove it, and let the endpoint verify the signature (sign)")
	case u.Fragment != "":
		return nil, errors.New("endpoint url: it has a fragment, which is never sent: remove it")
	}
	return u, nil
}

// Close closes idle connections.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Send makes one attempt. It does not follow redirects.
func (s *Sender) Send(ctx context.Context, t webhook.Task) Attempt {
	began := time.Now()
	status, retryAfter, err := s.send(ctx, &t, began)
	return Attempt{Status: status, RetryAfter: retryAfter, Err: err, Duration: time.Since(began)}
}

func (s *Sender) send(ctx context.Context, t *webhook.Task, now time.Time) (status int, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %s", s.timeout))
	defer cancel()
	header, err := headerOf(t, s.fields, s.signer, now)
	if err != nil {
		return 0, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(t.Body))
	if err != nil {
		return 0, 0, s.redact(err)
	}
	req.Header = header
	// net/http does not send a field without values, but repeats a request that has this one
	// if the endpoint closed the idle connection that was chosen. Endpoints recognize repeats.
	req.Header["Idempotency-Key"] = nil
	// RoundTrip, unlike a Client, follows no redirect and stores no cookie.
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, 0, s.redact(err)
	}
	// After 101 the body is the connection, whose reads do not end with ctx.
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, _ = io.CopyN(io.Discard, resp.Body, maxResponseBody)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, parseRetryAfter(resp.Header.Get("Retry-After"), now), nil
}
