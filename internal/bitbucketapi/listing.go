package bitbucketapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// pageTimeout bounds one page of a list that a person waits for.
const pageTimeout = 30 * time.Second

// ListRepositories lists every repository of a workspace that the access token can
// read: for a command that a person waits for, not for a server. It returns the
// complete list or an error: a page that is refused, exceeds 30 s or is invalid ends
// the list, and the error names the page. It sends 60 requests of 100 repositories at
// once, and then waits for the hourly budget until ctx ends. A nil transport is
// [NewTransport]. The error is [ErrNoAPI] if c is nil.
func ListRepositories(ctx context.Context, slug, workspaceUUID string, c *Config, transport http.RoundTripper) ([]identity.KnownName, error) {
	if c == nil {
		return nil, ErrNoAPI
	}
	id, ok := uuid.Parse(workspaceUUID)
	if !ok {
		return nil, fmt.Errorf("bitbucket: workspace %s: %s is not a UUID", slug, printable.Quote(workspaceUUID))
	}
	h := NewHTTP(transport, time.Now)
	defer h.CloseIdleConnections()
	client := New(h, *c, id, func(string, time.Duration, error) {})
	page := 1
	list, err := client.AllRepositories(ctx, client.await, func(read int, p Page) error {
		if p.Next == "" && p.Size != nil && *p.Size > read {
			return fmt.Errorf("the list ends here, and should have %d: it may have changed meanwhile, try again", *p.Size)
		}
		page++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bitbucket: list the repositories of workspace %s: page %d, after %d repositories: %w", slug, page, len(list), err)
	}
	return list, nil
}

// await sends one request, and waits for the budget if it is used up.
func (c *Client) await(ctx context.Context, address string) ([]byte, error) {
	for {
		bounded, cancel := context.WithTimeout(ctx, pageTimeout)
		body, err := c.Get(bounded, "repositories", address, false)
		cancel()
		if !errors.Is(err, ErrBusy) || c.Blocked() > 0 {
			return body, err
		}
		if !pause.For(ctx, c.budget.interval) {
			return nil, ctx.Err()
		}
	}
}
