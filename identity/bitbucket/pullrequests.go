package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
)

const (
	// maxRecentPages bounds the search among merged pull requests.
	maxRecentPages = 2
	// maxPullRequestPages bounds every other list about one pull request.
	maxPullRequestPages = 5
	// leastHash is the fewest digits by which a hash is recognized. Bitbucket
	// abbreviates to 12.
	leastHash = 7
)

// PullRequests reads the pull requests of one repository, for the record and not for
// a decision: it asks only with the half of the API's budget that no step waits for,
// and fails while that is used up. It is safe for concurrent use.
type PullRequests struct {
	rest       *rest
	repository string // slug
	requests   atomic.Int64
}

// PullRequests returns a reader for a repository of a workspace, or [ErrNoAPI]. The
// repository is a slug.
func (a *Authenticator) PullRequests(workspaceUUID, repository string) (*PullRequests, error) {
	if !isSlug(repository) {
		return nil, fmt.Errorf("bitbucket: %s is not a repository's slug", quote(repository))
	}
	for _, i := range a.list {
		if i.workspace.UUID == workspaceUUID && i.names != nil {
			return &PullRequests{rest: i.names.rest, repository: repository}, nil
		}
	}
	return nil, ErrNoAPI
}

// Requests returns how many requests were made.
func (p *PullRequests) Requests() int64 { return p.requests.Load() }

// OfCommit lists the ids of the merged pull requests that a commit belongs to. The
// index that answers is an app that a workspace may not have, and takes a while
// (REST 2.0, "List pull requests that contain a commit"): where it does not answer,
// the latest merged pull requests are searched for this merge commit. Errors are
// those of package identity, or say nothing of the commit.
func (p *PullRequests) OfCommit(ctx context.Context, commit string) ([]int64, error) {
	var ids []int64
	err := p.list(ctx, p.path("commit", commit, "pullrequests")+"?"+url.Values{"pagelen": {"50"}, "fields": {"next,values.id"}}.Encode(), maxPullRequestPages, func(raw []byte) error {
		id, err := parseID(raw)
		ids = append(ids, id)
		return err
	})
	switch {
	case err == nil:
		return ids, nil
	case !isAbsence(err) && !isStatus(err, 202):
		return nil, asked(err)
	}
	found, recentErr := p.recent(ctx, commit)
	switch {
	case recentErr != nil:
		return nil, asked(recentErr)
	case len(found) == 0 && isStatus(err, 202):
		return nil, identity.ErrIndexing
	}
	return found, nil
}

// recent searches the latest merged pull requests for a merge commit.
func (p *PullRequests) recent(ctx context.Context, commit string) (ids []int64, err error) {
	q := url.Values{"state": {"MERGED"}, "sort": {"-updated_on"}, "pagelen": {"50"}, "fields": {"next,values.id,values.merge_commit.hash"}}
	err = p.list(ctx, p.path("pullrequests")+"?"+q.Encode(), maxRecentPages, func(raw []byte) error {
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
	if errors.Is(err, errManyPages) {
		err = nil // older ones were merged long ago
	}
	return ids, err
}

// begins reports whether a hash may be the one of a commit.
func begins(commit, hash string) bool {
	return len(hash) >= leastHash && strings.HasPrefix(commit, hash)
}

// PullRequest reads one.
func (p *PullRequests) PullRequest(ctx context.Context, id int64) (identity.PullRequest, error) {
	body, err := p.get(ctx, p.path("pullrequests", strconv.FormatInt(id, 10)))
	if err != nil {
		return identity.PullRequest{}, asked(err)
	}
	return parsePullRequest(body, id)
}

// Commits lists who wrote the commits of a pull request.
func (p *PullRequests) Commits(ctx context.Context, id int64) ([]identity.PullRequestCommit, error) {
	var all []identity.PullRequestCommit
	q := url.Values{"pagelen": {"100"}, "fields": {"next,values.hash,values.author.user.uuid,values.author.user.display_name"}}
	err := p.list(ctx, p.path("pullrequests", strconv.FormatInt(id, 10), "commits")+"?"+q.Encode(), maxPullRequestPages, func(raw []byte) error {
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
		return nil, asked(err)
	}
	return all, nil
}

func (p *PullRequests) path(segments ...string) string {
	return p.rest.path(append([]string{"repositories", braced(p.rest.workspace), p.repository}, segments...)...)
}

func (p *PullRequests) get(ctx context.Context, address string) ([]byte, error) {
	body, err := p.rest.get(ctx, "pull requests", address, true)
	if !errors.Is(err, errBusy) {
		p.requests.Add(1)
	}
	return body, err
}

var errManyPages = errors.New("it has too many pages")

// list walks a paginated list of at most so many pages.
func (p *PullRequests) list(ctx context.Context, next string, pages int, each func([]byte) error) error {
	for range pages {
		body, err := p.get(ctx, next)
		if err != nil {
			return err
		}
		var page struct {
			Values []json.RawMessage `json:"values"`
			Next   string            `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil || page.Values == nil {
			return fmt.Errorf("list pull requests: the answer is not a list: %w", errors.Join(err))
		}
		for _, v := range page.Values {
			if err := each(v); err != nil {
				return fmt.Errorf("list pull requests: %w", err)
			}
		}
		if page.Next == "" {
			return nil
		}
		if !onHost(page.Next, p.rest.api.URL) {
			return errors.New("list pull requests: the next page is on another host, which is not followed")
		}
		next = page.Next
	}
	return fmt.Errorf("list pull requests: %w", errManyPages)
}

func parseID(raw []byte) (int64, error) {
	var d struct{ ID int64 }
	if err := json.Unmarshal(raw, &d); err != nil {
		return 0, err
	}
	if d.ID <= 0 {
		return 0, errors.New("a pull request has no id")
	}
	return d.ID, nil
}

type accountJSON struct {
	UUID string `json:"uuid"`
	Name string `json:"display_name"`
}

func (a accountJSON) account() identity.Account {
	uuid, _ := parseUUID(a.UUID)
	if len(a.Name) > maxNameBytes || !isCleanText(a.Name) {
		a.Name = ""
	}
	return identity.Account{UUID: uuid, Name: a.Name}
}

// parsePullRequest reads a pull request. What people choose in it goes into the log
// alone. A review counts as an approval where the boolean says so and the state,
// which older answers do not have, does not say otherwise.
func parsePullRequest(body []byte, id int64) (identity.PullRequest, error) {
	var d struct {
		ID           int64
		Title        string
		State        string
		Author       accountJSON
		ClosedBy     accountJSON           `json:"closed_by"`
		MergeCommit  struct{ Hash string } `json:"merge_commit"`
		Source       struct{ Commit struct{ Hash string } }
		Destination  struct{ Branch struct{ Name string } }
		Participants []struct {
			User     accountJSON
			Approved bool
			State    *string
			At       string `json:"participated_on"`
		}
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.PullRequest{}, fmt.Errorf("read a pull request: %w", err)
	}
	if d.ID != id {
		return identity.PullRequest{}, fmt.Errorf("read a pull request: the API answered with another one, %d", d.ID)
	}
	p := identity.PullRequest{
		ID: d.ID, Title: d.Title, Merged: d.State == "MERGED", Author: d.Author.account(), MergedBy: d.ClosedBy.account(),
		Destination: d.Destination.Branch.Name, MergeCommit: hashOf(d.MergeCommit.Hash), Source: hashOf(d.Source.Commit.Hash),
	}
	for _, one := range d.Participants {
		r := identity.Review{Account: one.User.account(), Approved: one.Approved && (one.State == nil || *one.State == "approved"), ChangesRequested: one.State != nil && *one.State == "changes_requested"}
		if at, err := time.Parse(time.RFC3339Nano, one.At); err == nil {
			r.At = at.UTC()
		}
		if r.Approved || r.ChangesRequested {
			p.Reviews = append(p.Reviews, r)
		}
	}
	return p, nil
}

// hashOf is a commit's hash or how it begins; empty where it is none.
func hashOf(s string) string {
	if len(s) < leastHash || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}
