package bitbucketapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
)

const (
	// maxRecentPages bounds the search among merged pull requests.
	maxRecentPages = 2
	// maxPullRequestPages bounds every other list about one pull request.
	maxPullRequestPages = 5
)

// PullRequests reads the pull requests of one repository, in the background: for the
// log and not for a decision. It fails while the background's half of the budget is used
// up. It is safe for concurrent use.
type PullRequests struct {
	client     *Client
	repository string // slug
	requests   atomic.Int64
}

// PullRequests returns a reader for a repository of the workspace, by its slug.
func (c *Client) PullRequests(repository string) (*PullRequests, error) {
	if !IsSlug(repository) {
		return nil, fmt.Errorf("bitbucket: %s is not a repository's slug", printable.Quote(repository))
	}
	return &PullRequests{client: c, repository: repository}, nil
}

// Requests returns the number of requests that were sent.
func (p *PullRequests) Requests() int64 { return p.requests.Load() }

// OfCommit lists the ids of the merged pull requests that contain a commit. The index
// for this query is an app that a workspace may lack, and it is updated late (REST 2.0,
// "List pull requests that contain a commit"). Where it does not answer, OfCommit
// searches the latest merged pull requests for this merge commit. Errors wrap those of
// package identity, or do not concern the commit.
func (p *PullRequests) OfCommit(ctx context.Context, commit string) ([]int64, error) {
	var ids []int64
	q := url.Values{"pagelen": {"50"}, "fields": {"next,values.id"}}
	err := p.list(ctx, p.url("commit", commit, "pullrequests")+"?"+q.Encode(), maxPullRequestPages, func(raw []byte) error {
		id, err := parseID(raw)
		ids = append(ids, id)
		return err
	})
	switch {
	case err == nil:
		return ids, nil
	case !IsNotFound(err) && !IsStatus(err, http.StatusAccepted):
		return nil, Classify(err)
	}
	found, recentErr := p.recent(ctx, commit)
	switch {
	case recentErr != nil:
		return nil, Classify(recentErr)
	case len(found) == 0 && IsStatus(err, http.StatusAccepted):
		return nil, identity.ErrIndexing
	}
	return found, nil
}

// recent searches the latest merged pull requests for a merge commit.
func (p *PullRequests) recent(ctx context.Context, commit string) (ids []int64, err error) {
	q := url.Values{"state": {"MERGED"}, "sort": {"-updated_on"}, "pagelen": {"50"}, "fields": {"next,values.id,values.merge_commit.hash"}}
	err = p.list(ctx, p.url("pullrequests")+"?"+q.Encode(), maxRecentPages, func(raw []byte) error {
		var d struct {
			MergeCommit struct{ Hash string } `json:"merge_commit"`
		}
		id, err := parseID(raw)
		if err == nil {
			err = json.Unmarshal(raw, &d)
		}
		if err == nil && begins(commit, d.MergeCommit.Hash) {
			ids = append(ids, id)
		}
		return err
	})
	if errors.Is(err, ErrManyPages) {
		err = nil // older pull requests were merged long ago
	}
	return ids, err
}

// begins reports whether a hash can be that of a commit.
func begins(commit, hash string) bool {
	return len(hash) >= minHash && strings.HasPrefix(commit, hash)
}

// PullRequest fetches one pull request.
func (p *PullRequests) PullRequest(ctx context.Context, id int64) (identity.PullRequest, error) {
	body, err := p.get(ctx, p.url("pullrequests", strconv.FormatInt(id, 10)))
	if err != nil {
		return identity.PullRequest{}, Classify(err)
	}
	return parsePullRequest(body, id)
}

// Commits lists the authors of the commits of a pull request.
func (p *PullRequests) Commits(ctx context.Context, id int64) ([]identity.PullRequestCommit, error) {
	var all []identity.PullRequestCommit
	q := url.Values{"pagelen": {"100"}, "fields": {"next,values.hash,values.author.user.uuid,values.author.user.display_name"}}
	err := p.list(ctx, p.url("pullrequests", strconv.FormatInt(id, 10), "commits")+"?"+q.Encode(), maxPullRequestPages, func(raw []byte) error {
		var d struct {
			Hash   string
			Author struct{ User accountJSON }
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		all = append(all, identity.PullRequestCommit{Hash: hashOf(d.Hash), Author: d.Author.User.account()})
		return nil
	})
	if err != nil {
		return nil, Classify(err)
	}
	return all, nil
}

func (p *PullRequests) url(segments ...string) string {
	return p.client.RepositoryURL(p.repository, segments...)
}

func (p *PullRequests) get(ctx context.Context, address string) ([]byte, error) {
	body, err := p.client.Get(ctx, "pull requests", address, true)
	if !errors.Is(err, ErrBusy) {
		p.requests.Add(1)
	}
	return body, err
}

// list reads a list of at most so many pages.
func (p *PullRequests) list(ctx context.Context, first string, pages int, each func([]byte) error) error {
	err := p.client.Pages(ctx, first, pages, p.get, func(page Page) error {
		for _, v := range page.Values {
			if err := each(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list pull requests: %w", err)
	}
	return nil
}
