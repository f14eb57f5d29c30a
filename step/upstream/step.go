package upstream

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// Step returns what Sallyport knows of this step. A refusal is not an error; an error is
// of [ErrToken] or [ErrUnreachable].
func (c *Client) Step(ctx context.Context) (*stepapi.Step, *Refusal, error) {
	path := stepapi.PathStep + "?" + stepapi.ParameterFormat + "=" + stepapi.FormatJSON
	resource, refusal, err := c.Get(ctx, path, stepapi.MaxResponse)
	if resource == nil {
		return nil, refusal, err
	}
	var step stepapi.Step
	if err := json.Unmarshal(resource.Body, &step); err != nil || resource.Status != 200 {
		return nil, nil, fmt.Errorf("%w: GET %s: the response with status %d is not the JSON of a step: the proxy has another version, or is not Sallyport", ErrUnreachable, stepapi.PathStep, resource.Status)
	}
	return &step, nil, nil
}
