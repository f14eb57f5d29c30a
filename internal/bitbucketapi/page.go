package bitbucketapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxPages bounds a list: 20,000 repositories.
const MaxPages = 200

var (
	// ErrManyPages is the error of a list that exceeds its bound of pages.
	ErrManyPages = errors.New("it has too many pages")
	// ErrOtherHost is the error of a page whose successor is on another host. The
	// request carries the access token, so that page is not fetched.
	ErrOtherHost = errors.New("the next page is on another host, which is not followed")
)

// Page is one page of a list. Bitbucket promises values and next only (REST 2.0,
// Pagination).
type Page struct {
	Values []json.RawMessage `json:"values"`
	Next   string            `json:"next"` // opaque; empty: the last page
	Size   *int              `json:"size"`
}

// ReadPage reads a response that must be a list.
func ReadPage(body []byte) (Page, error) {
	var p Page
	if err := json.Unmarshal(body, &p); err != nil {
		return Page{}, fmt.Errorf("read a page: %w", err)
	}
	if p.Values == nil {
		return Page{}, errors.New("read a page: the response is not a list: it has no values")
	}
	return p, nil
}

// Fetch sends a request for a page.
type Fetch func(ctx context.Context, address string) ([]byte, error)

// Background returns a Fetch that sends requests in the background (see [Client.Get]).
func (c *Client) Background(subject string) Fetch {
	return func(ctx context.Context, address string) ([]byte, error) { return c.Get(ctx, subject, address, true) }
}

// Pages reads a list from its first page, at most so many pages, and calls each for
// every page. Pages are only fetched from the API's own host.
func (c *Client) Pages(ctx context.Context, first string, limit int, fetch Fetch, each func(Page) error) error {
	next := first
	for range limit {
		body, err := fetch(ctx, next)
		if err != nil {
			return err
		}
		page, err := ReadPage(body)
		if err != nil {
			return err
		}
		if err := each(page); err != nil {
			return err
		}
		if page.Next == "" {
			return nil
		}
		if !c.IsOwn(page.Next) {
			return ErrOtherHost
		}
		next = page.Next
	}
	return fmt.Errorf("%w: more than %d", ErrManyPages, limit)
}
