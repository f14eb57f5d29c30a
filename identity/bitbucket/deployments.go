package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	deploymentsBurst = 20
	maxAttempts      = 5 // of one request that the API fails or puts off

	// deploymentsSort is not in Atlassian's OpenAPI document; public clients use
	// it. An order is therefore never believed but checked.
	deploymentsSort = "-state.started_on"
)

// deploymentFields keep the answer small: a hundred whole deployments are some
// hundred kilobytes. The times of a state have two names, in the OpenAPI document
// and in live answers.
var deploymentFields = strings.Join([]string{
	"next", "values.uuid", "values.environment.uuid", "values.step.uuid",
	"values.state.name", "values.state.type", "values.state.status.name",
	"values.state.started_on", "values.state.completed_on", "values.state.start_date", "values.state.completion_date",
	"values.release.created_on", "values.release.pipeline.uuid", "values.release.pipeline.build_number",
	"values.deployable.created_on", "values.deployable.pipeline.uuid", "values.created_on", "values.last_update_time",
}, ",")

// Deployments reads what one workspace has deployed, for the record and not for
// a decision: within a budget of its own that is part of the API's, and only with
// the half of that which no step waits for. Every method waits until it may ask,
// and ends with ctx. It is safe for concurrent use.
type Deployments struct {
	rest     *rest
	requests atomic.Int64
	unsorted atomic.Bool // the API refuses the parameter sort

	mu     sync.Mutex
	budget bucket
}

// Deployments returns a reader of a workspace's deployments that makes at most
// perHour requests an hour, or [ErrNoAPI].
func (a *Authenticator) Deployments(workspaceUUID string, perHour int) (*Deployments, error) {
	for _, i := range a.list {
		if i.workspace.UUID == workspaceUUID && i.names != nil {
			perHour = max(perHour, 1)
			return &Deployments{rest: i.names.rest, budget: newBucket(min(deploymentsBurst, float64(perHour)), time.Hour/time.Duration(perHour))}, nil
		}
	}
	return nil, ErrNoAPI
}

// Requests returns how many requests were made.
func (d *Deployments) Requests() int64 { return d.requests.Load() }

// Repositories lists the workspace's repositories, all of them or an error.
func (d *Deployments) Repositories(ctx context.Context) ([]identity.KnownName, error) {
	var all []identity.KnownName
	next := d.rest.path("repositories", braced(d.rest.workspace)) + "?pagelen=100"
	for range maxPages {
		body, err := d.get(ctx, "repositories", next)
		if err != nil {
			return nil, fmt.Errorf("list the workspace's repositories: %w", asked(err))
		}
		p, err := parsePage(body)
		if err != nil {
			return nil, fmt.Errorf("list the workspace's repositories: %w", err)
		}
		for _, raw := range p.Values {
			n, err := parseRepository(raw, d.rest.workspace)
			if err != nil {
				return nil, fmt.Errorf("list the workspace's repositories: %w", err)
			}
			n.FetchedAt = d.rest.now()
			all = append(all, n)
		}
		if p.Next == "" {
			return all, nil
		}
		if next = p.Next; !onHost(next, d.rest.api.URL) {
			return nil, errors.New("list the workspace's repositories: the next page is on another host, which is not followed")
		}
	}
	return nil, fmt.Errorf("list the workspace's repositories: it has more than %d pages", maxPages)
}

// Page reads one page of a repository's runs of deployments: the first where next
// is empty, and otherwise the one that DeploymentPage.Next named. The newest start
// is asked to come first; whether it does is for the caller to see. Its errors
// are those of package identity, or say nothing of the repository.
func (d *Deployments) Page(ctx context.Context, repository, next string) (identity.DeploymentPage, error) {
	first := next == ""
	body, err := d.page(ctx, repository, next)
	if err != nil {
		answer, ok := errors.AsType[*statusError](err)
		switch {
		case !ok || answer.status != 400:
			return identity.DeploymentPage{}, asked(err)
		case !first:
			return identity.DeploymentPage{}, fmt.Errorf("%w: %w", identity.ErrCursor, err)
		case d.unsorted.Swap(true):
			return identity.DeploymentPage{}, err
		}
		if body, err = d.page(ctx, repository, ""); err != nil {
			d.unsorted.Store(false)
			return identity.DeploymentPage{}, asked(err)
		}
	}
	page, err := parseDeploymentPage(body, d.rest.workspace, repository)
	if err == nil && page.Next != "" && !onHost(page.Next, d.rest.api.URL) {
		err = errors.New("list deployments: the next page is on another host, which is not followed")
	}
	return page, err
}

func (d *Deployments) page(ctx context.Context, repository, next string) ([]byte, error) {
	if next == "" {
		q := url.Values{"pagelen": {"100"}, "fields": {deploymentFields}}
		if !d.unsorted.Load() {
			q.Set("sort", deploymentsSort)
		}
		next = d.rest.path("repositories", braced(d.rest.workspace), braced(repository), "deployments") + "?" + q.Encode()
	}
	if !onHost(next, d.rest.api.URL) {
		return nil, fmt.Errorf("%w: it is on another host", identity.ErrCursor)
	}
	return d.get(ctx, "deployment runs", next)
}

// Step asks for one step of a pipeline.
func (d *Deployments) Step(ctx context.Context, repository, pipeline, step string) (identity.StepRun, error) {
	body, err := d.get(ctx, "step", d.rest.path("repositories", braced(d.rest.workspace), braced(repository),
		"pipelines", braced(pipeline), "steps", braced(step)))
	if err != nil {
		return identity.StepRun{}, asked(err)
	}
	return parseStep(body, step)
}

// get makes one request, when it may.
func (d *Deployments) get(ctx context.Context, what, address string) ([]byte, error) {
	for failed := 0; ; {
		if err := d.turn(ctx); err != nil {
			return nil, err
		}
		body, err := d.rest.get(ctx, what, address, true)
		if err == nil {
			d.requests.Add(1)
			return body, nil
		}
		wait := d.rest.pause()
		if errors.Is(err, errBusy) { // nothing was sent
			d.mu.Lock()
			d.budget.put()
			d.mu.Unlock()
			wait = max(wait, 5*time.Second)
		} else {
			d.requests.Add(1)
			if failed++; wait == 0 || failed == maxAttempts || isStatus(err, 401) {
				return nil, err
			}
		}
		if !pause.For(ctx, wait) {
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// turn waits for a place in the budget.
func (d *Deployments) turn(ctx context.Context) error {
	for {
		d.mu.Lock()
		mine := d.budget.take(d.rest.now(), 1)
		wait := time.Duration((1 - d.budget.have) * float64(d.budget.every))
		d.mu.Unlock()
		if mine {
			return ctx.Err()
		}
		if !pause.For(ctx, max(wait, time.Millisecond)) {
			return ctx.Err()
		}
	}
}

// asked makes what the API answered into an error of package identity.
func asked(err error) error {
	switch {
	case isAbsence(err) || isStatus(err, 410):
		return fmt.Errorf("%w: %w", identity.ErrAbsent, err)
	case isStatus(err, 403):
		return fmt.Errorf("%w: %w", identity.ErrForbidden, err)
	}
	return err
}

func isStatus(err error, status int) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && answer.status == status
}
