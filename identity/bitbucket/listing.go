package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/internal/pause"
)

// pageTimeout bounds one page of a list that somebody waits for.
const pageTimeout = 30 * time.Second

// ListedRepository is a repository as the workspace's list has it.
type ListedRepository struct {
	UUID     string // bare and lower-case
	FullName string // workspace/repository
}

// Repositories asks Bitbucket's REST API for every repository of a workspace that
// its access token can see: for a tool that somebody waits for, not for a server.
// The list is whole or there is an error: a page that is refused, does not come in
// 30 s, or cannot be read ends it, and the error says how far it came. It makes 60
// requests of 100 repositories at once, and waits for the hourly budget then, until
// ctx ends. A nil transport is one that takes nothing from the environment. The
// error is [ErrNoAPI] where the workspace has no API.
func Repositories(ctx context.Context, w Workspace, transport http.RoundTripper) ([]ListedRepository, error) {
	if w.API == nil {
		return nil, ErrNoAPI
	}
	uuid, ok := parseUUID(w.UUID)
	if !ok {
		return nil, fmt.Errorf("bitbucket: workspace %s: %s is not a UUID", w.Slug, quote(w.UUID))
	}
	w.UUID = uuid
	c := newClient(transport, time.Now)
	defer c.http.CloseIdleConnections()
	r := newREST(c, &w, time.Now, func(string, time.Duration, error) {})
	list, pages, err := r.wholeList(ctx)
	if err != nil {
		return nil, fmt.Errorf("bitbucket: list the repositories of workspace %s: page %d, after %d repositories: %w", w.Slug, pages+1, len(list), err)
	}
	return list, nil
}

// repositoryPage is one page of the list. Bitbucket promises values and next alone
// (REST 2.0, Pagination).
type repositoryPage struct {
	Values []json.RawMessage `json:"values"`
	Next   string            `json:"next"`
	Size   *int              `json:"size"`
}

// wholeList returns what it has, and how many pages that were, with its error.
func (r *rest) wholeList(ctx context.Context) (list []ListedRepository, pages int, err error) {
	next := r.path("repositories", braced(r.workspace)) + "?pagelen=100"
	seen := map[string]bool{}
	for pages < maxPages {
		body, err := r.await(ctx, next)
		if err != nil {
			return list, pages, err
		}
		var page repositoryPage
		if err := json.Unmarshal(body, &page); err != nil {
			return list, pages, err
		}
		if page.Values == nil {
			return list, pages, errors.New("the answer is not a list")
		}
		for _, raw := range page.Values {
			n, err := parseRepository(raw, r.workspace)
			if err != nil {
				return list, pages, err
			}
			// One that moves to a later page while we read comes twice.
			if !seen[n.RepositoryUUID] {
				seen[n.RepositoryUUID] = true
				list = append(list, ListedRepository{n.RepositoryUUID, n.FullName})
			}
		}
		switch {
		case page.Next == "" && page.Size != nil && *page.Size > len(list):
			return list, pages, fmt.Errorf("the list ends here, and should have %d: it may have changed meanwhile, ask again", *page.Size)
		case page.Next == "":
			return list, pages + 1, nil
		case !onHost(page.Next, r.api.URL):
			return list, pages, errors.New("the next page is on another host, which is not followed")
		}
		next = page.Next
		pages++
	}
	return list, pages, fmt.Errorf("it has more than %d pages", maxPages)
}

// await makes one request, and waits for the budget where that is used up.
func (r *rest) await(ctx context.Context, address string) ([]byte, error) {
	for {
		bounded, cancel := context.WithTimeout(ctx, pageTimeout)
		body, err := r.get(bounded, "repositories", address, false)
		cancel()
		if !errors.Is(err, errBusy) || r.pause() > 0 {
			return body, err
		}
		if !pause.For(ctx, r.budget.every) {
			return nil, ctx.Err()
		}
	}
}
