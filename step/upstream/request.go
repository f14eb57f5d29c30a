package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/step/token"
)

// keptFor is how long a connection waits for its next request: less than the server's
// idle timeout of one minute.
const keptFor = 20 * time.Second

// newTransport returns the transport for absolute-form requests. All connections are of
// the pool; the URL of the proxy only selects the form of the request.
//
// net/http repeats a request on a new connection only if it has no content and the kept
// connection ended without a response (RFC 9110 section 9.2.2).
func (c *Client) newTransport() *http.Transport {
	t := &http.Transport{
		DisableCompression:     true,
		MaxIdleConns:           32,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        keptFor,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		stream, _, err := c.getRetrying(ctx)
		return stream, err
	}
	t.Proxy = http.ProxyURL(&url.URL{Scheme: "https", Host: "sallyport.invalid:443"})
	// A custom TLS dialer is trusted to have done the handshake: plain proxies, which need
	// Config.Plaintext, use it too.
	t.DialTLSContext = dial
	t.DialContext = dial
	return t
}

// getRetrying gets a connection, and repeats this until Config.RetryFor has passed: nothing has been sent.
func (c *Client) getRetrying(ctx context.Context) (Stream, *proxy, error) {
	attempts := c.newAttempts()
	for {
		conn, err := c.pool.get(ctx)
		if err == nil {
			c.pool.refillLater()
			return conn.Stream, conn.proxy, nil
		}
		if isCertificate(err) || !attempts.wait(ctx) {
			return nil, nil, err
		}
	}
}

// RoundTrip sends an absolute-form request for an http:// URL to Sallyport. It replaces
// Proxy-Authorization by the step's token. The response may be Sallyport's refusal (see
// [IsRefusal]). The body of a response of 101 is a [Stream]'s reader and writer, with
// CloseWrite. Errors are of [ErrToken], [ErrTarget] and [ErrUnreachable], or a
// [RefusedError] for a token whose refusal is remembered.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL == nil || r.URL.Scheme != "http" {
		closeBody(r)
		return nil, ErrTarget // another scheme would make the transport tunnel it
	}
	t, err := c.config.Token.Token(r.Context())
	if err != nil {
		closeBody(r)
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if refusal := c.expired.recall(t, time.Now()); refusal != nil {
		closeBody(r)
		return nil, &RefusedError{refusal}
	}
	resp, err := c.send(r, t)
	if err != nil || resp.Header.Get("Sallyport-Reason") != reasonExpired {
		return resp, err
	}
	refusal := readRefusal(resp)
	fresh, err := c.config.Token.Renew(r.Context(), t)
	if err != nil || fresh.Same(t) {
		c.expired.remember(t, refusal, time.Now())
		return resp, nil
	}
	if r.Body != nil && r.Body != http.NoBody {
		return resp, nil // no content is sent twice; the next request has the other token
	}
	if resp, err = c.send(r, fresh); err == nil && resp.Header.Get("Sallyport-Reason") == reasonExpired {
		c.expired.remember(fresh, readRefusal(resp), time.Now())
	}
	return resp, err
}

// send sends a request with a token.
func (c *Client) send(r *http.Request, t token.Token) (*http.Response, error) {
	var used net.Conn
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { used = i.Conn }})
	r = r.Clone(ctx)
	c.setField(r.Header, "Proxy-Authorization", "Bearer "+t.Reveal())
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	c.proxies.responded()
	if both, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		if stream, ok := used.(Stream); ok {
			resp.Body = &switched{both, stream}
		}
	}
	return resp, nil
}

// switched is the body of a response of 101, whose directions end separately: net/http
// gives it no CloseWrite.
type switched struct {
	io.ReadWriteCloser
	stream Stream
}

// CloseWrite ends the direction of writing.
func (s *switched) CloseWrite() error { return s.stream.CloseWrite() }

// closeBody closes a request's content, as [http.RoundTripper] requires.
func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}
