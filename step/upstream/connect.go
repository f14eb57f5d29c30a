package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/step/token"
)

// Errors of [Client.Connect] and [Client.RoundTrip], for errors.Is.
var (
	// ErrUnreachable means that no proxy could be reached, or that none responded.
	ErrUnreachable = errors.New("no proxy responds")
	// ErrToken means that the source has no token.
	ErrToken = errors.New("no token")
	// ErrTarget means that the target cannot be sent in a request line.
	ErrTarget = errors.New("the target has characters that no target has")
)

const (
	firstBackoff   = 50 * time.Millisecond
	maxBackoff     = 2 * time.Second
	maxTargetBytes = 512
)

// Connect opens a tunnel to a target, host:port, as the tool wrote it. Sallyport decides
// about the spelling. It returns the stream, or Sallyport's refusal, or an error of
// [ErrUnreachable], [ErrToken] or [ErrTarget].
//
// A CONNECT that got no response is repeated, as is one that a proxy refused because it
// shuts down, until Config.RetryFor has passed. No byte of the tool is sent before the
// tunnel is open, so that a repetition repeats nothing of the tool's. The refusal of an
// expired token is returned again for 15 s, until the source has another token.
func (c *Client) Connect(ctx context.Context, target string) (Stream, *Refusal, error) {
	if !isTarget(target) {
		return nil, nil, ErrTarget
	}
	t, err := c.config.Token.Token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if refusal := c.expired.recall(t, time.Now()); refusal != nil {
		return nil, refusal, nil
	}
	stream, refusal, err := c.connectRetrying(ctx, target, t)
	if !refusal.IsExpired() {
		return stream, refusal, err
	}
	if fresh, err := c.config.Token.Renew(ctx, t); err == nil && !fresh.Same(t) {
		t = fresh
		if stream, refusal, err = c.connectRetrying(ctx, target, t); !refusal.IsExpired() {
			return stream, refusal, err
		}
	}
	c.expired.remember(t, refusal, time.Now())
	return nil, refusal, nil
}

// connectRetrying repeats a CONNECT that got no response, and one that a proxy refused
// because it shuts down.
func (c *Client) connectRetrying(ctx context.Context, target string, t token.Token) (Stream, *Refusal, error) {
	for attempts := c.newAttempts(); ; {
		stream, refusal, err := c.connectOnce(ctx, target, t)
		repeat := err != nil && !isCertificate(err) || refusal != nil && refusal.Reason == "shutting_down"
		if repeat && attempts.wait(ctx) {
			c.config.Log.Debug("CONNECT repeated", "target", target, "error", err)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return stream, refusal, nil
	}
}

// isTarget reports whether a target is printable ASCII without spaces, of a bounded
// length, so that it stays one word of a request line.
func isTarget(s string) bool {
	return s != "" && len(s) <= maxTargetBytes && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// attempts bounds the repetitions of one operation.
type attempts struct {
	until   time.Time
	backoff time.Duration
}

func (c *Client) newAttempts() *attempts {
	return &attempts{until: c.proxies.retryUntil(time.Now(), c.config.RetryFor), backoff: firstBackoff}
}

// wait pauses before the next attempt, and reports whether there is one.
func (a *attempts) wait(ctx context.Context) bool {
	pause := a.backoff/2 + rand.N(a.backoff)
	a.backoff = min(2*a.backoff, maxBackoff)
	if time.Now().Add(pause).After(a.until) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connectOnce sends one CONNECT and reads its response.
func (c *Client) connectOnce(ctx context.Context, target string, t token.Token) (Stream, *Refusal, error) {
	conn, err := c.pool.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer c.pool.refillLater()
	return c.ask(ctx, conn, target, t)
}

// ask sends a CONNECT on a connection, and reads its response. The connection is closed
// unless it becomes the stream.
func (c *Client) ask(ctx context.Context, conn *conn, target string, t token.Token) (_ Stream, _ *Refusal, err error) {
	defer func() {
		if err != nil {
			_ = conn.Close()
			if ctx.Err() == nil {
				c.proxies.failed(conn.proxy)
			}
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	if err = conn.SetDeadline(time.Now().Add(c.config.AnswerTimeout)); err != nil {
		return nil, nil, err
	}
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nProxy-Authorization: Bearer " + t.Reveal() + "\r\n\r\n"
	if _, err = io.WriteString(conn, head); err != nil {
		return nil, nil, fmt.Errorf("send CONNECT to proxy %s: %w", conn.proxy.address, err)
	}
	limited := &io.LimitedReader{R: conn, N: c.config.MaxAnswerBytes}
	r := bufio.NewReaderSize(limited, 2<<10)
	resp, err := readAnswer(r)
	if err != nil {
		return nil, nil, fmt.Errorf("read the response of proxy %s to CONNECT: %w", conn.proxy.address, err)
	}
	if resp.StatusCode == http.StatusOK {
		c.proxies.worked(conn.proxy)
		if !stop() {
			return nil, nil, context.Cause(ctx)
		}
		if err = conn.SetDeadline(time.Time{}); err != nil {
			return nil, nil, err
		}
		limited.N = math.MaxInt64
		if r.Buffered() == 0 {
			return conn.Stream, nil, nil
		}
		return &buffered{Stream: conn.Stream, r: r}, nil, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusalText))
	_ = conn.Close()
	refusal := ParseRefusal(resp.StatusCode, resp.Header, string(text))
	if refusal.Reason == "" {
		return nil, nil, fmt.Errorf("proxy %s responded %d without a reason: it is not Sallyport, or another proxy is in between", conn.proxy.address, resp.StatusCode)
	}
	if refusal.Reason == "shutting_down" {
		c.proxies.failed(conn.proxy)
	} else {
		c.proxies.worked(conn.proxy)
	}
	return nil, refusal, nil
}

// readAnswer reads the response to a CONNECT, without the interim responses before it.
func readAnswer(r *bufio.Reader) (*http.Response, error) {
	request := &http.Request{Method: http.MethodConnect}
	for range 5 {
		resp, err := http.ReadResponse(r, request)
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, errors.New("the connection ended without a complete response")
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 {
			return resp, nil
		}
	}
	return nil, errors.New("too many interim responses")
}

// buffered is a stream whose first bytes came together with the response.
type buffered struct {
	Stream
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
