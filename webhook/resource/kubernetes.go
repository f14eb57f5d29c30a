package resource

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
	"strings"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// Bounds of a refresh.
const (
	maxResponseBytes = 4 << 20 // of one response of the API server
	maxObjects       = 1000    // that one refresh annotates
	pageObjects      = 100     // of one page of a list
	maxConflicts     = 3       // attempts of one patch that conflicts with another change
)

// KubernetesConfig configures a [Kubernetes].
type KubernetesConfig struct {
	// Server is the URL of the API server: https, without user information, query and
	// fragment.
	Server *url.URL
	// Dial opens connections: the only way to the server.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	RootCAs *x509.CertPool // nil: those of the system
	// Token returns the service account's token. It is called for each refresh: Kubernetes
	// replaces the files of projected tokens.
	Token   func() (string, error)
	Timeout time.Duration // of a refresh; 0: 10 s
	Object  Object
}

// Kubernetes sets an annotation of objects through an API server. It is safe for concurrent
// use.
type Kubernetes struct {
	config    KubernetesConfig
	transport *http.Transport
	do        func(*http.Request) (*http.Response, error) // follows no redirect
}

// NewKubernetes returns a target. The caller must call [Kubernetes.Close].
func NewKubernetes(c KubernetesConfig) (*Kubernetes, error) {
	s := c.Server
	switch {
	case s == nil || s.Scheme != "https" || s.Hostname() == "" || s.User != nil || s.RawQuery != "" || s.Fragment != "":
		return nil, errors.New("kubernetes server: write https://host:port, without user information, query and fragment")
	case c.Dial == nil || c.Token == nil:
		return nil, errors.New("kubernetes: there is no dialer, or no token")
	}
	if err := c.Object.check(); err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	t := &http.Transport{
		Proxy:                  nil, // never the environment's
		DialContext:            c.Dial,
		DisableCompression:     true,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.Timeout,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    1,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true)
	// RoundTrip, unlike a Client, follows no redirect: the token stays with the server.
	return &Kubernetes{config: c, transport: t, do: t.RoundTrip}, nil
}

// Close closes idle connections.
func (k *Kubernetes) Close() { k.transport.CloseIdleConnections() }

// Refresh annotates the objects; the task is not used. The attempt has the first status that
// is not 2xx, and never the token. Without objects that match, it is a success.
func (k *Kubernetes) Refresh(ctx context.Context, _ webhook.Task) dispatch.Attempt {
	began := time.Now()
	a := k.refresh(ctx, began)
	a.Duration = time.Since(began)
	return a
}

func (k *Kubernetes) refresh(ctx context.Context, now time.Time) dispatch.Attempt {
	ctx, cancel := context.WithTimeoutCause(ctx, k.config.Timeout, fmt.Errorf("the API server did not answer within %s", k.config.Timeout))
	defer cancel()
	token, err := k.config.Token()
	if err != nil {
		return dispatch.Attempt{Err: fmt.Errorf("kubernetes token_file: %w", err)}
	}
	c := call{k: k, token: token}
	names := []string{k.config.Object.Name}
	status := http.StatusOK
	if k.config.Object.Name == "" {
		if names, status, err = c.list(ctx); err != nil || status != http.StatusOK {
			return k.attempt("list", status, err)
		}
	}
	body := k.config.Object.patch(now)
	result := dispatch.Attempt{Decided: dispatch.Delivered, Status: status}
	for _, name := range names {
		got, err := c.patch(ctx, name, body)
		switch {
		case err != nil:
			return k.attempt("patch", 0, err)
		case got/100 == 2 || got == http.StatusNotFound && k.config.Object.Name == "": // deleted since it was listed
		case result.Decided == dispatch.Delivered: // the first failure; the others are still attempted
			result = k.attempt("patch", got, nil)
		}
	}
	return result
}

// attempt describes a failure in terms of what an operator can change.
func (k *Kubernetes) attempt(verb string, status int, err error) dispatch.Attempt {
	if err != nil {
		return dispatch.Attempt{Err: fmt.Errorf("kubernetes %s: %w", verb, err)}
	}
	o := k.config.Object
	what := fmt.Sprintf("the status is %d", status)
	switch status {
	case http.StatusUnauthorized:
		what = "the API server rejects the token (401): check token_file"
	case http.StatusForbidden:
		what = fmt.Sprintf("forbidden (403): grant the service account %s on %s in namespace %s", verb, o.groupResource(), o.Namespace)
	case http.StatusNotFound:
		what = fmt.Sprintf("not found (404): check api_version, resource, namespace and name of %s", o.groupResource())
	case http.StatusConflict:
		what = "the object changes all the time (409)"
	case http.StatusUnsupportedMediaType:
		what = "the API server accepts no JSON merge patch (415)"
	case http.StatusUnprocessableEntity:
		what = "the API server rejects the object (422): check annotation and annotation_value"
	}
	return dispatch.Attempt{Status: status, Detail: "kubernetes " + verb + ": " + what}
}

// A call has the token of one refresh.
type call struct {
	k     *Kubernetes
	token string
}

// patch sets the annotation of an object, again if another change interferes.
func (c call) patch(ctx context.Context, name string, body []byte) (status int, err error) {
	for range maxConflicts {
		status, _, err = c.send(ctx, http.MethodPatch, c.k.config.Object.path(name), url.Values{"fieldManager": {"sallyport"}}, body)
		if err != nil || status != http.StatusConflict {
			break
		}
	}
	return status, err
}

// list returns the names of the objects to annotate, and 200 or the status of a failure.
func (c call) list(ctx context.Context) (names []string, status int, err error) {
	query := url.Values{"limit": {fmt.Sprint(pageObjects)}}
	if c.k.config.Object.Selector != "" {
		query.Set("labelSelector", c.k.config.Object.Selector)
	}
	for range maxObjects/pageObjects + 1 {
		status, body, err := c.send(ctx, http.MethodGet, c.k.config.Object.path(""), query, nil)
		if err != nil || status != http.StatusOK {
			return nil, status, err
		}
		page, following, err := readList(body, c.k.config.Object.WaitingStep)
		if err != nil {
			return nil, 0, err
		}
		if names = append(names, page...); len(names) > maxObjects {
			break
		}
		if following == "" {
			return names, http.StatusOK, nil
		}
		query.Set("continue", following)
	}
	return nil, 0, fmt.Errorf("more than %d objects match: narrow label_selector", maxObjects)
}

// send makes one request. Errors contain neither the token nor what the server wrote.
func (c call) send(ctx context.Context, method, path string, query url.Values, body []byte) (status int, response []byte, err error) {
	u := c.k.config.Server.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the request cannot be made: check server")
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Sallyport")
	if body != nil {
		req.Header.Set("Content-Type", "application/merge-patch+json") // RFC 7396
	}
	resp, err := c.k.do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, nil, errors.New(strings.ReplaceAll(err.Error(), c.token, "[token]"))
	}
	defer resp.Body.Close()
	// After 101 the body is the connection, whose reads do not end with ctx.
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, nil, nil
	}
	response, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes+1))
	switch {
	case method != http.MethodGet: // the status decides
		return resp.StatusCode, nil, nil
	case err != nil:
		return 0, nil, errors.New("the response broke off")
	case len(response) > maxResponseBytes:
		return 0, nil, fmt.Errorf("the response has more than %d bytes", maxResponseBytes)
	}
	return resp.StatusCode, response, nil
}
