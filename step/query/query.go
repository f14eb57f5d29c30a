// Package query asks Sallyport about the step itself: what the step requested, which
// targets it would reach, and it records the result of a network check. The resources are
// those of package stepapi.
package query

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/token"
)

// timeout bounds one request, with its connection.
const timeout = 20 * time.Second

// Proxy is one address of Sallyport.
type Proxy struct {
	Host    string // a name or an IP address
	Address string // host:port
	TLS     bool
}

// ParseProxy parses the URL of a proxy: https://HOST:PORT, or http://HOST:PORT if
// plaintext is set. It refuses user information and does not repeat it in the error.
func ParseProxy(text string, plaintext bool) (Proxy, error) {
	if strings.Contains(text, "@") {
		return Proxy{}, errors.New("the URL of the proxy has user information: remove it; the token comes from its own source")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(text, "?#") || strings.Trim(u.Path, "/") != "":
		return Proxy{}, fmt.Errorf("%s is not the URL of a proxy: write https://HOST:PORT", printable.Quote(text))
	case u.Scheme == "http" && !plaintext:
		return Proxy{}, fmt.Errorf("%s sends the token without encryption: use the TLS listener, https://HOST:PORT", printable.Quote(text))
	case u.Scheme != "https" && u.Scheme != "http":
		return Proxy{}, fmt.Errorf("%s has the wrong scheme: write https://HOST:PORT", printable.Quote(text))
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return Proxy{Host: u.Hostname(), Address: net.JoinHostPort(u.Hostname(), port), TLS: u.Scheme == "https"}, nil
}

// Refusal is the error of a request that Sallyport refused. Its texts are printable.
type Refusal struct {
	Status  int
	Reason  string // of docs/reasons.md; "" if the response is not from Sallyport
	Message string // the response's line of text, which states the remedy
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return fmt.Sprintf("the proxy responded %d without a reason: it is not Sallyport, or it does not offer this resource", r.Status)
	}
	return r.Message
}

// Client sends the requests. It is safe for concurrent use.
type Client struct {
	proxies []Proxy
	token   token.Source
	http    *http.Client
}

// Config configures a [Client]. Proxies and Token are required.
type Config struct {
	Proxies []Proxy
	CAFile  string // authorities of the proxies in PEM; "": the system's
	Token   token.Source
}

// Roots reads the certificate authorities of a file; nil, the system's, for "".
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM: use the file of the authority that signed the proxy's certificate", printable.Quote(file))
	}
	return pool, nil
}

// New returns a client. It connects to nothing.
func New(c Config) (*Client, error) {
	if len(c.Proxies) == 0 || c.Token == nil {
		return nil, errors.New("query: a proxy and a source of the token are needed")
	}
	roots, err := Roots(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	transport := &http.Transport{
		Proxy:                  nil, // directly, whatever the environment has
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &Client{proxies: c.Proxies, token: c.Token, http: &http.Client{
		Transport: transport, Timeout: timeout,
		// The token is for the proxy: a redirect would send it elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Step returns what Sallyport knows of the step. The error is a [*Refusal] if Sallyport
// refused.
func (c *Client) Step(ctx context.Context) (*stepapi.Step, error) {
	var s stepapi.Step
	if err := c.get(ctx, stepapi.PathStep+"?"+stepapi.ParameterFormat+"="+stepapi.FormatJSON, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Evaluate returns the decisions about targets, at most stepapi.MaxTargets. No connection
// to a target is opened. Each decision is recorded in the audit log.
func (c *Client) Evaluate(ctx context.Context, targets []string) (*stepapi.Evaluations, error) {
	if len(targets) > stepapi.MaxTargets {
		return nil, fmt.Errorf("query: %d targets: give at most %d", len(targets), stepapi.MaxTargets)
	}
	values := url.Values{stepapi.ParameterTo: targets, stepapi.ParameterFormat: {stepapi.FormatJSON}}
	var e stepapi.Evaluations
	if err := c.get(ctx, stepapi.PathStep+"?"+values.Encode(), &e); err != nil {
		return nil, err
	}
	if len(e.Evaluations) != len(targets) {
		return nil, fmt.Errorf("query: the proxy returned %d decisions for %d targets", len(e.Evaluations), len(targets))
	}
	return &e, nil
}

// SendNetworkCheck records the result of a network check. It returns nil once the audit
// log has the result.
func (c *Client) SendNetworkCheck(ctx context.Context, check *stepapi.NetworkCheck) error {
	if err := check.Validate(); err != nil {
		return err
	}
	content, err := json.Marshal(check)
	if err != nil {
		return err
	}
	return c.each(ctx, http.MethodPost, stepapi.PathNetworkCheck, content, func(r *http.Response) error {
		if r.StatusCode != http.StatusNoContent {
			return refusal(r)
		}
		return nil
	})
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	return c.each(ctx, http.MethodGet, path, nil, func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return refusal(r)
		}
		content, err := io.ReadAll(io.LimitReader(r.Body, stepapi.MaxResponse+1))
		switch {
		case err != nil:
			return fmt.Errorf("read the response of the proxy: %w", err)
		case len(content) > stepapi.MaxResponse:
			return errors.New("the response of the proxy is too long")
		}
		if err := json.Unmarshal(content, into); err != nil {
			return errors.New("the response of the proxy is not JSON of the expected form: use the same version of sallyport-step and Sallyport")
		}
		return nil
	})
}

// each sends a request to the proxies in turn, until one responds. A refusal is a response.
func (c *Client) each(ctx context.Context, method, path string, content []byte, read func(*http.Response) error) error {
	t, err := c.token.Token(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for _, p := range c.proxies {
		scheme := "https"
		if !p.TLS {
			scheme = "http"
		}
		r, err := http.NewRequestWithContext(ctx, method, scheme+"://"+p.Address+path, bytes.NewReader(content))
		if err != nil {
			return fmt.Errorf("query: %w", err)
		}
		r.Header.Set("Proxy-Authorization", "Bearer "+t.Reveal())
		r.Header.Set("Accept", "application/json")
		if content != nil {
			r.Header.Set("Content-Type", "application/json")
		}
		response, err := c.http.Do(r)
		if err != nil {
			if e, ok := errors.AsType[*url.Error](err); ok {
				err = e.Err // without the URL
			}
			failures = append(failures, fmt.Errorf("proxy %s: %w", p.Address, err))
			continue
		}
		err = read(response)
		_ = response.Body.Close()
		return err
	}
	return errors.Join(failures...)
}

// maxRefusalText bounds the text of a refusal, in bytes.
const maxRefusalText = 2 << 10

func refusal(r *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(r.Body, maxRefusalText))
	return &Refusal{Status: r.StatusCode, Reason: clean(r.Header.Get(stepapi.FieldReason)), Message: clean(strings.TrimSpace(string(text)))}
}

// clean returns a text from the network as one line of printable ASCII.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
