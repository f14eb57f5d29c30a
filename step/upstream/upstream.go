// Package upstream connects a build step to Sallyport: it keeps TLS connections ready,
// opens tunnels, sends requests, and fails over between several proxies. The step's token
// is sent in Proxy-Authorization over verified TLS only.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sallyport/sallyport/step/token"
)

// Config configures a [Client]. Proxies and Token are required.
type Config struct {
	// Proxies are the URLs of equal proxies, the preferred one first:
	// https://HOST:PORT.
	Proxies []string
	// Plaintext permits http:// URLs of proxies: the token and the requests are then
	// readable in the network.
	Plaintext bool
	// CAFile has the certificate authorities of the proxies in PEM; "": the system's.
	CAFile string
	Token  token.Source

	MaxReady       int           // idle connections that are kept ready; 0: 8; negative: none
	MaxReadyAge    time.Duration // 0: 8 s. A connection without a request is closed by the server after its read_header_timeout, 10 s by default
	DialTimeout    time.Duration // for TCP and TLS to one proxy; 0: 5 s
	RetryFor       time.Duration // for the attempts of one CONNECT or dial together; 0: 15 s
	AnswerTimeout  time.Duration // for the response to one CONNECT; 0: 2 min
	MaxAnswerBytes int64         // of the head of a response to CONNECT; 0: 64 KiB

	Log *slog.Logger // nil: none
}

// Client sends a step's requests to Sallyport. It is safe for concurrent use.
type Client struct {
	config    Config
	proxies   *proxyList
	pool      *pool
	transport *http.Transport
	expired   expired
	setField  func(h http.Header, name, value string) // replaces; only a test adds instead
	ctx       context.Context                         // of the client's own dials
	cancel    context.CancelFunc
}

// Stream is a connection whose directions end separately.
type Stream interface {
	net.Conn
	// CloseWrite ends the direction of writing: the peer reads an end of file.
	CloseWrite() error
}

// New returns a client, or an error that states what is wrong with the configuration. It
// connects to nothing; call [Client.Close] at the end.
func New(c Config) (*Client, error) {
	if c.Token == nil {
		return nil, errors.New("upstream: a source of the token is missing")
	}
	list, err := parseProxies(c.Proxies, c.Plaintext)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(c.CAFile)
	if err != nil {
		return nil, err
	}
	c.MaxReady = cmp.Or(c.MaxReady, 8)
	c.MaxReadyAge = cmp.Or(c.MaxReadyAge, 8*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.RetryFor = cmp.Or(c.RetryFor, 15*time.Second)
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, 2*time.Minute)
	c.MaxAnswerBytes = cmp.Or(c.MaxAnswerBytes, 64<<10)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	u := &Client{config: c, proxies: list, setField: http.Header.Set}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	list.secure(roots)
	u.pool = newPool(u.ctx, c.MaxReady, c.MaxReadyAge, u.dialAny, list.preferred)
	u.transport = u.newTransport()
	return u, nil
}

// Close closes all ready connections. Streams that [Client.Connect] returned continue.
func (c *Client) Close() {
	c.cancel()
	c.transport.CloseIdleConnections()
	c.pool.close()
}

// Warm opens one connection for the next tunnel, in the background.
func (c *Client) Warm() { c.pool.refill() }

// readRoots reads the authorities that a proxy's certificate must lead to.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("upstream: read the proxy's certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("upstream: %q has no certificate in PEM: use the file of the authority that signed the proxy's certificate", file)
	}
	return pool, nil
}

// clientTLS returns the TLS settings for a proxy. Its certificate is verified for host.
func clientTLS(host string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		ServerName:         host,
		RootCAs:            roots,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
}
