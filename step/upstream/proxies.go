package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
)

// downFor is how long a proxy that failed is tried after the others.
const downFor = 5 * time.Second

// proxy is one address of Sallyport.
type proxy struct {
	address string      // host:port
	host    string      // for the certificate
	plain   bool        // without TLS
	tls     *tls.Config // nil: plain
}

// proxyList has the proxies in the order of preference.
type proxyList struct {
	all []*proxy

	mu      sync.Mutex
	down    map[*proxy]time.Time // until when a proxy is tried last
	failing time.Time            // when the first failure since the latest response was; zero: none
}

func parseProxies(urls []string, plaintext bool) (*proxyList, error) {
	if len(urls) == 0 {
		return nil, errors.New("upstream: no proxy is configured: give the URL of Sallyport, https://HOST:PORT")
	}
	list := &proxyList{down: make(map[*proxy]time.Time)}
	for _, raw := range urls {
		p, err := parseProxy(raw, plaintext)
		if err != nil {
			return nil, err
		}
		list.all = append(list.all, p)
	}
	return list, nil
}

// parseProxy reads the URL of a proxy. No error repeats a URL with user information, which
// may be the token.
func parseProxy(raw string, plaintext bool) (*proxy, error) {
	if strings.Contains(raw, "@") {
		return nil, errors.New("upstream: the proxy's URL has user information: remove it; the token comes from its own source")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(raw, "?#") || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("upstream: proxy %s: not a URL of the form https://HOST:PORT", printable.Quote(raw))
	}
	p := &proxy{host: u.Hostname(), plain: u.Scheme == "http"}
	port := u.Port()
	switch {
	case u.Scheme != "https" && !p.plain:
		return nil, fmt.Errorf("upstream: proxy %s: the scheme is not https: use https://HOST:PORT", printable.Quote(raw))
	case p.plain && !plaintext:
		return nil, fmt.Errorf("upstream: proxy %s: http:// sends the token without encryption: use the TLS listener, https://HOST:PORT", printable.Quote(raw))
	case port == "" && p.plain:
		port = "80"
	case port == "":
		port = "443"
	}
	p.address = net.JoinHostPort(p.host, port)
	return p, nil
}

// secure sets the TLS settings of all proxies.
func (l *proxyList) secure(roots *x509.CertPool) {
	for _, p := range l.all {
		if !p.plain {
			p.tls = clientTLS(p.host, roots)
		}
	}
}

// order returns the proxies in the order to try: those that failed a moment ago are last.
func (l *proxyList) order() []*proxy {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	var up, down []*proxy
	for _, p := range l.all {
		if now.Before(l.down[p]) {
			down = append(down, p)
		} else {
			up = append(up, p)
		}
	}
	return append(up, down...)
}

// preferred reports whether no other proxy is tried before p.
func (l *proxyList) preferred(p *proxy) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.down[p]) {
		return true
	}
	for _, other := range l.all {
		if !now.Before(l.down[other]) {
			return false
		}
	}
	return true
}

// failed moves a proxy behind the others for some seconds.
func (l *proxyList) failed(p *proxy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.down[p] = now.Add(downFor)
	if l.failing.IsZero() {
		l.failing = now
	}
}

// worked ends this: the proxy responded. A connection alone does not show that it serves.
func (l *proxyList) worked(p *proxy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.down, p)
	l.failing = time.Time{}
}

// responded records that some proxy responded.
func (l *proxyList) responded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = time.Time{}
}

// minRetry is how long attempts continue when no proxy has responded for longer than
// Config.RetryFor.
const minRetry = 2 * time.Second

// retryUntil returns the end of the attempts that begin now. All requests share the time
// for a restart of the proxy: in a long outage, a tool that repeats its requests must not
// wait for each in full.
func (l *proxyList) retryUntil(now time.Time, retryFor time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing.IsZero() {
		return now.Add(retryFor)
	}
	until := l.failing.Add(retryFor)
	if least := now.Add(min(minRetry, retryFor)); until.Before(least) {
		return least
	}
	return until
}

// conn is a connection to a proxy, on which nothing has been sent.
type conn struct {
	Stream
	proxy *proxy
}

// dialAny connects to the first proxy that can be reached. The error names every proxy.
func (c *Client) dialAny(ctx context.Context) (*conn, error) {
	var failures []error
	for _, p := range c.proxies.order() {
		stream, err := c.dial(ctx, p)
		if err == nil {
			return &conn{Stream: stream, proxy: p}, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to proxy %s: %w", p.address, err)
		}
		c.proxies.failed(p)
		failures = append(failures, fmt.Errorf("connect to proxy %s: %w", p.address, err))
	}
	return nil, errors.Join(failures...)
}

// dial connects to a proxy by TCP, and by TLS unless it is plain. TCP_NODELAY is set by
// package net.
func (c *Client) dial(ctx context.Context, p *proxy) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.DialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	if p.plain {
		return raw.(*net.TCPConn), nil
	}
	t := tls.Client(raw, p.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, explainTLS(err)
	}
	return t, nil
}

// explainTLS adds the remedy to the usual failures of a handshake.
func explainTLS(err error) error {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%w: the proxy does not speak TLS on this port: use the port of its TLS listener", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: give the authority's certificate as a CA file", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w: use a name that the proxy's certificate has", err)
	}
	return err
}

// isCertificate reports whether a proxy was reached and not trusted, which a repetition
// does not change.
func isCertificate(err error) bool {
	var e *tls.CertificateVerificationError
	return errors.As(err, &e)
}
