package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Resource is a response of the proxy about itself.
type Resource struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get reads one of the proxy's own resources, such as /step?format=json, of at most limit
// bytes, with the step's token. It asks the first proxy that can be reached. A refusal is
// not an error. Errors are of [ErrToken] and [ErrUnreachable].
func (c *Client) Get(ctx context.Context, path string, limit int64) (*Resource, *Refusal, error) {
	return c.exchange(ctx, http.MethodGet, path, nil, limit)
}

// Post sends JSON to one of the proxy's own resources; see [Client.Get].
func (c *Client) Post(ctx context.Context, path string, content []byte, limit int64) (*Resource, *Refusal, error) {
	return c.exchange(ctx, http.MethodPost, path, content, limit)
}

func (c *Client) exchange(ctx context.Context, method, path string, content []byte, limit int64) (*Resource, *Refusal, error) {
	t, err := c.config.Token.Token(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	stream, p, err := c.getRetrying(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = stream.Close() }()
	defer context.AfterFunc(ctx, func() { _ = stream.SetDeadline(past) })()
	if err := stream.SetDeadline(time.Now().Add(c.config.AnswerTimeout)); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, bytes.NewReader(content))
	if err != nil {
		return nil, nil, fmt.Errorf("upstream: the path %q of a resource: %w", path, err)
	}
	r.Close = true
	r.Header.Set("Proxy-Authorization", "Bearer "+t.Reveal())
	r.Header.Set("Accept", "application/json")
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resource, err := c.read(stream, r, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s %s of proxy %s: %w", ErrUnreachable, method, r.URL.Path, p.address, err)
	}
	c.proxies.responded()
	if IsRefusal(resource.Header) {
		return nil, ParseRefusal(resource.Status, resource.Header, string(resource.Body)), nil
	}
	return resource, nil, nil
}

// read sends a request and reads its response.
func (c *Client) read(stream Stream, r *http.Request, limit int64) (*Resource, error) {
	if err := r.Write(stream); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: stream, N: c.config.MaxAnswerBytes + limit}
	resp, err := http.ReadResponse(bufio.NewReader(limited), r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the response has more than %d bytes", limit)
	}
	return &Resource{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}
