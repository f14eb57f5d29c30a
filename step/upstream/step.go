package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// Step returns what Sallyport knows of this step. A refusal is not an error; an error is
// of [ErrToken] or [ErrUnreachable].
func (c *Client) Step(ctx context.Context) (*stepapi.Step, *Refusal, error) {
	var step stepapi.Step
	if refusal, err := c.getStep(ctx, nil, &step); refusal != nil || err != nil {
		return nil, refusal, err
	}
	return &step, nil, nil
}

// Evaluate returns Sallyport's decisions about targets, at most stepapi.MaxTargets. No
// connection to a target is opened, and each decision is recorded in the audit log. The
// errors are those of [Client.Step].
func (c *Client) Evaluate(ctx context.Context, targets []string) (*stepapi.Evaluations, *Refusal, error) {
	var e stepapi.Evaluations
	if refusal, err := c.getStep(ctx, targets, &e); refusal != nil || err != nil {
		return nil, refusal, err
	}
	if len(e.Evaluations) != len(targets) {
		return nil, nil, fmt.Errorf("%w: GET %s: %d decisions for %d targets: the proxy has another version, or is not Sallyport", ErrUnreachable, stepapi.PathStep, len(e.Evaluations), len(targets))
	}
	return &e, nil, nil
}

// getStep reads the JSON of /step, with targets to evaluate.
func (c *Client) getStep(ctx context.Context, targets []string, into any) (*Refusal, error) {
	values := url.Values{stepapi.ParameterTo: targets, stepapi.ParameterFormat: {stepapi.FormatJSON}}
	resource, refusal, err := c.Get(ctx, stepapi.PathStep+"?"+values.Encode(), stepapi.MaxResponse)
	if resource == nil {
		return refusal, err
	}
	if err := json.Unmarshal(resource.Body, into); err != nil || resource.Status != 200 {
		return nil, fmt.Errorf("%w: GET %s: the response with status %d is not the JSON of a step: the proxy has another version, or is not Sallyport", ErrUnreachable, stepapi.PathStep, resource.Status)
	}
	return nil, nil
}
