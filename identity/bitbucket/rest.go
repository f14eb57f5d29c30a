package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/identity"
)

const (
	requestsPerHour = 900
	apiBurst        = 60
	maxPages        = 200 // of one list: 20,000 repositories
	maxNameBytes    = 255

	minBackoff = time.Second
	maxBackoff = time.Minute
)

// errBusy is the error of a request that was not made, because the API asked
// us to stay away or because its budget is used up.
var errBusy = errors.New("the API is not asked at the moment")

// rest asks Bitbucket's REST API 2.0 for names, one workspace's. It keeps to a
// budget of requests and to what 429 and 5xx ask for. It is safe for concurrent
// use.
type rest struct {
	client    *client
	api       *API
	workspace string // UUID
	now       func() time.Time
	report    func(what string, took time.Duration, err error)

	mu       sync.Mutex
	budget   bucket
	blocked  time.Time
	failures int
	failure  error // why it is blocked
	latest   error // of the latest request
	answered time.Time
}

func newREST(c *client, w *Workspace, now func() time.Time, report func(string, time.Duration, error)) *rest {
	perHour := w.API.RequestsPerHour
	if perHour == 0 {
		perHour = requestsPerHour
	}
	return &rest{
		client: c, api: w.API, workspace: w.UUID, now: now, report: report,
		budget: newBucket(min(apiBurst, float64(perHour)), time.Hour/time.Duration(perHour)),
	}
}

// share is how much of the budget one repository may use: half.
func (r *rest) share() (size float64, every time.Duration) {
	return max(1, r.budget.size/2), 2 * r.budget.every
}

// get makes one request. What waits in the background leaves half of the budget
// to what a step waits for.
func (r *rest) get(ctx context.Context, what, address string, background bool) ([]byte, error) {
	keep := 1.0
	if background {
		keep = r.budget.size / 2
	}
	begun := r.now()
	r.mu.Lock()
	switch {
	case begun.Before(r.blocked):
		until, err := r.blocked, r.failure
		r.mu.Unlock()
		return nil, fmt.Errorf("%w, until %s: %w", errBusy, stamp(until), err)
	case !r.budget.take(begun, max(1, keep)):
		r.mu.Unlock()
		return nil, fmt.Errorf("%w: the budget of requests is used up", errBusy)
	}
	r.mu.Unlock()

	bearer, err := r.api.Token()
	if err != nil {
		err = fmt.Errorf("read the access token of the API: %w", err)
	}
	var body []byte
	if err == nil {
		body, err = r.client.get(ctx, address, bearer)
	}
	r.settle(err)
	failure := err
	if isAbsence(err) {
		failure = nil
	}
	r.report(what, r.now().Sub(begun), failure)
	return body, err
}

// settle draws the consequences of an answer. 429 and 5xx, an unreachable API
// and a token that it does not take block every request for a while; that one
// thing was not found, or may not be read, says nothing of the others.
func (r *rest) settle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest = err
	if err == nil || isAbsence(err) {
		r.latest, r.answered = nil, r.now()
	}
	answer, ok := errors.AsType[*statusError](err)
	if err == nil || ok && answer.status != 401 && answer.status != 429 && answer.status < 500 {
		r.failures = 0
		return
	}
	pause := min(maxBackoff, minBackoff<<min(r.failures, 6))
	if ok {
		pause = max(pause, min(answer.retryAfter, time.Hour))
	}
	r.failures++
	r.failure = err
	if until := r.now().Add(pause); until.After(r.blocked) {
		r.blocked = until
	}
}

// isAbsence reports whether the API answered that there is no such thing, which
// is an answer: a repository without pipelines, a pipeline that is gone.
func isAbsence(err error) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && answer.status == 404
}

// pause returns how long the API must be left alone.
func (r *rest) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.blocked.Sub(r.now()))
}

// path joins segments that may be UUIDs. Bitbucket wants them in braces and the
// braces percent-encoded: a raw brace in the path is answered with 400.
func (r *rest) path(segments ...string) string {
	var b strings.Builder
	b.WriteString(r.api.URL)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

func braced(uuid string) string { return "{" + uuid + "}" }

// repository asks for one repository of the workspace.
func (r *rest) repository(ctx context.Context, uuid string, background bool) (identity.KnownName, error) {
	body, err := r.get(ctx, identity.NameOfRepository, r.path("repositories", braced(r.workspace), braced(uuid)), background)
	if err != nil {
		return identity.KnownName{}, err
	}
	n, err := parseRepository(body, r.workspace)
	if err == nil && n.RepositoryUUID != uuid {
		err = fmt.Errorf("the API answered with another repository, {%s}", n.RepositoryUUID)
	}
	n.FetchedAt = r.now()
	return n, err
}

// deployment asks for one deployment environment of a repository.
func (r *rest) deployment(ctx context.Context, repository, uuid string, background bool) (identity.KnownName, error) {
	body, err := r.get(ctx, identity.NameOfDeployment,
		r.path("repositories", braced(r.workspace), braced(repository), "environments", braced(uuid)), background)
	if err != nil {
		return identity.KnownName{}, err
	}
	n, err := parseDeployment(body, r.workspace, repository)
	if err == nil && n.DeploymentUUID != uuid {
		err = fmt.Errorf("the API answered with another environment, {%s}", n.DeploymentUUID)
	}
	n.FetchedAt = r.now()
	return n, err
}

// repositories lists the workspace's repositories in the background.
func (r *rest) repositories(ctx context.Context, yield func(identity.KnownName)) error {
	return r.list(ctx, "repositories", r.path("repositories", braced(r.workspace)), func(raw []byte) {
		if n, err := parseRepository(raw, r.workspace); err == nil {
			n.FetchedAt = r.now()
			yield(n)
		}
	})
}

// deployments lists a repository's environments in the background.
func (r *rest) deployments(ctx context.Context, repository string, yield func(identity.KnownName)) error {
	address := r.path("repositories", braced(r.workspace), braced(repository), "environments")
	return r.list(ctx, "deployments", address, func(raw []byte) {
		if n, err := parseDeployment(raw, r.workspace, repository); err == nil {
			n.FetchedAt = r.now()
			yield(n)
		}
	})
}

// list walks a paginated list. Only values and next are sure to be there, and
// next is opaque; it is followed on the API's own host alone, for the request
// carries the access token.
func (r *rest) list(ctx context.Context, what, address string, each func([]byte)) error {
	next := address + "?pagelen=100"
	for range maxPages {
		body, err := r.get(ctx, what, next, true)
		if err != nil {
			return err
		}
		var page struct {
			Values []json.RawMessage `json:"values"`
			Next   string            `json:"next"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("list %s: %w", what, err)
		}
		for _, v := range page.Values {
			each(v)
		}
		if page.Next == "" {
			return nil
		}
		if !onHost(page.Next, r.api.URL) {
			return fmt.Errorf("list %s: the next page is on another host, which is not followed", what)
		}
		next = page.Next
	}
	return fmt.Errorf("list %s: it has more than %d pages", what, maxPages)
}

// parseRepository reads a repository object. Its names go into policy, where
// they choose the folder of rules, so they are checked to be what they seem.
func parseRepository(body []byte, workspace string) (identity.KnownName, error) {
	var d struct {
		UUID      string                       `json:"uuid"`
		FullName  string                       `json:"full_name"`
		Project   struct{ Key string }         `json:"project"`
		Workspace *struct{ UUID, Slug string } `json:"workspace"`
	}
	var none identity.KnownName
	if err := json.Unmarshal(body, &d); err != nil {
		return none, fmt.Errorf("read a repository: %w", err)
	}
	uuid, ok := parseUUID(d.UUID)
	owner, slug, cut := strings.Cut(d.FullName, "/")
	switch {
	case !ok:
		return none, errors.New("read a repository: its uuid is missing")
	case !cut || !isSlug(owner) || !isSlug(slug):
		return none, fmt.Errorf("read a repository: its full_name %s is not a workspace and a repository", quote(d.FullName))
	case len(d.Project.Key) > maxNameBytes || !isCleanText(d.Project.Key):
		return none, errors.New("read a repository: its project's key is not clean text")
	}
	if d.Workspace != nil {
		if w, ok := parseUUID(d.Workspace.UUID); !ok || w != workspace || d.Workspace.Slug != owner {
			return none, fmt.Errorf("read a repository: it belongs to another workspace, %s", quote(d.Workspace.Slug))
		}
	}
	return identity.KnownName{
		Kind: identity.NameOfRepository, WorkspaceUUID: workspace, RepositoryUUID: uuid,
		WorkspaceSlug: owner, FullName: d.FullName, Project: d.Project.Key,
	}, nil
}

// parseDeployment reads a deployment environment. Atlassian's OpenAPI document
// knows uuid and name only; slug and environment_type are sent all the same.
func parseDeployment(body []byte, workspace, repository string) (identity.KnownName, error) {
	var d struct {
		UUID, Name, Slug string
		Type             struct{ Name string } `json:"environment_type"`
	}
	var none identity.KnownName
	if err := json.Unmarshal(body, &d); err != nil {
		return none, fmt.Errorf("read a deployment environment: %w", err)
	}
	uuid, ok := parseUUID(d.UUID)
	switch {
	case !ok:
		return none, errors.New("read a deployment environment: its uuid is missing")
	case d.Name == "" || len(d.Name) > maxNameBytes || !isCleanText(d.Name):
		return none, errors.New("read a deployment environment: its name is not clean text")
	}
	if !isSlug(d.Slug) {
		d.Slug = ""
	}
	kind := strings.ToLower(d.Type.Name)
	switch kind {
	case "test", "staging", "production":
	default:
		kind = "" // not guessed: a rule that asks for a type does not match
	}
	return identity.KnownName{
		Kind: identity.NameOfDeployment, WorkspaceUUID: workspace, RepositoryUUID: repository, DeploymentUUID: uuid,
		Name: d.Name, Slug: d.Slug, Type: kind,
	}, nil
}

// isSlug reports whether s is fit to be a part of a URL's path and of a file's.
func isSlug(s string) bool {
	if s == "" || len(s) > maxNameBytes || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
