package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	burst       = 20
	maxAttempts = 5               // of one request that the API fails or puts off
	busyPause   = 5 * time.Second // while the API's budget is used up

	// sortNewestFirst is not in Atlassian's OpenAPI document; public clients use it.
	// Callers therefore check the order.
	sortNewestFirst = "-state.started_on"
)

// deploymentFields keep the response small: a hundred complete deployments have some
// hundred kilobytes. The times of a state have two names, in the OpenAPI document and
// in live responses.
var deploymentFields = strings.Join([]string{
	"next", "values.uuid", "values.environment.uuid", "values.step.uuid",
	"values.state.name", "values.state.type", "values.state.status.name",
	"values.state.started_on", "values.state.completed_on", "values.state.start_date", "values.state.completion_date",
	"values.release.created_on", "values.release.pipeline.uuid", "values.release.pipeline.build_number",
	"values.deployable.created_on", "values.deployable.pipeline.uuid", "values.created_on", "values.last_update_time",
}, ",")

// Deployments reads the deployments of one workspace. Its budget is a part of the
// API's, and it uses only the half that no step waits for. Every method waits until it
// may send a request, or until ctx ends. It is safe for concurrent use.
type Deployments struct {
	client   *bitbucketapi.Client
	requests atomic.Int64
	unsorted atomic.Bool // the API refuses the parameter sort

	mu     sync.Mutex
	budget bitbucketapi.Bucket
}

// New returns a reader of the client's workspace that sends at most perHour requests
// an hour, and at least one.
func New(client *bitbucketapi.Client, perHour int) *Deployments {
	perHour = max(perHour, 1)
	return &Deployments{client: client, budget: bitbucketapi.NewBucket(min(burst, float64(perHour)), time.Hour/time.Duration(perHour))}
}

// Requests returns the number of requests that were sent.
func (d *Deployments) Requests() int64 { return d.requests.Load() }

// Repositories lists the workspace's repositories: all of them or an error.
func (d *Deployments) Repositories(ctx context.Context) ([]identity.KnownName, error) {
	fetch := func(ctx context.Context, address string) ([]byte, error) { return d.get(ctx, "repositories", address) }
	all, err := d.client.AllRepositories(ctx, fetch, func(int, bitbucketapi.Page) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("list the workspace's repositories: %w", bitbucketapi.Classify(err))
	}
	return all, nil
}

// Page reads one page of a repository's runs of deployments: the first if next is
// empty, and otherwise the page that DeploymentPage.Next named. It requests the newest
// start first; the caller checks the order. Its errors wrap those of package identity,
// or do not concern the repository.
func (d *Deployments) Page(ctx context.Context, repository, next string) (identity.DeploymentPage, error) {
	body, err := d.page(ctx, repository, next)
	if bitbucketapi.IsStatus(err, http.StatusBadRequest) {
		if next != "" {
			return identity.DeploymentPage{}, fmt.Errorf("%w: %w", identity.ErrCursor, err)
		}
		if body, err = d.withoutSort(ctx, repository, err); err != nil {
			return identity.DeploymentPage{}, err
		}
	}
	if err != nil {
		return identity.DeploymentPage{}, bitbucketapi.Classify(err)
	}
	page, err := parsePage(body, d.client.WorkspaceUUID(), repository)
	if err == nil && page.Next != "" && !d.client.IsOwn(page.Next) {
		err = fmt.Errorf("list deployments: %w", bitbucketapi.ErrOtherHost)
	}
	return page, err
}

// withoutSort requests the first page again without the parameter sort, if the refused
// request had it.
func (d *Deployments) withoutSort(ctx context.Context, repository string, refused error) ([]byte, error) {
	if d.unsorted.Swap(true) {
		return nil, refused
	}
	body, err := d.page(ctx, repository, "")
	if err != nil {
		d.unsorted.Store(false)
		return nil, bitbucketapi.Classify(err)
	}
	return body, nil
}

func (d *Deployments) page(ctx context.Context, repository, next string) ([]byte, error) {
	if next == "" {
		q := url.Values{"pagelen": {"100"}, "fields": {deploymentFields}}
		if !d.unsorted.Load() {
			q.Set("sort", sortNewestFirst)
		}
		next = d.client.RepositoryURL(bitbucketapi.Braced(repository), "deployments") + "?" + q.Encode()
	}
	if !d.client.IsOwn(next) {
		return nil, fmt.Errorf("%w: it is on another host", identity.ErrCursor)
	}
	return d.get(ctx, "deployment runs", next)
}

// Step fetches one step of a pipeline.
func (d *Deployments) Step(ctx context.Context, repository, pipeline, step string) (identity.StepRun, error) {
	body, err := d.get(ctx, "step", d.client.RepositoryURL(bitbucketapi.Braced(repository),
		"pipelines", bitbucketapi.Braced(pipeline), "steps", bitbucketapi.Braced(step)))
	if err != nil {
		return identity.StepRun{}, bitbucketapi.Classify(err)
	}
	return parseStep(body, step)
}

// get sends one request, when the budgets permit it.
func (d *Deployments) get(ctx context.Context, subject, address string) ([]byte, error) {
	for failed := 0; ; {
		if err := d.acquire(ctx); err != nil {
			return nil, err
		}
		body, err := d.client.Get(ctx, subject, address, true)
		if err == nil {
			d.requests.Add(1)
			return body, nil
		}
		wait := d.client.Blocked()
		if errors.Is(err, bitbucketapi.ErrBusy) { // nothing was sent
			d.mu.Lock()
			d.budget.Put()
			d.mu.Unlock()
			wait = max(wait, busyPause)
		} else {
			d.requests.Add(1)
			if failed++; wait == 0 || failed == maxAttempts || bitbucketapi.IsStatus(err, http.StatusUnauthorized) {
				return nil, err
			}
		}
		if !pause.For(ctx, wait) {
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// acquire waits for a request of the budget.
func (d *Deployments) acquire(ctx context.Context) error {
	for {
		d.mu.Lock()
		acquired := d.budget.Take(d.client.Now(), 1)
		wait := d.budget.Wait()
		d.mu.Unlock()
		if acquired {
			return ctx.Err()
		}
		if !pause.For(ctx, max(wait, time.Millisecond)) {
			return ctx.Err()
		}
	}
}
