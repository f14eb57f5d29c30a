package bitbucketapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Pipeline fetches a pipeline, in the background: for the log and not for a decision.
// It fails while the background's half of the budget is used up or the API demands a
// pause. A pipeline that Bitbucket does not know is not an error. UUIDs are bare and
// lower-case.
func (c *Client) Pipeline(ctx context.Context, repository, id string) (identity.Pipeline, error) {
	body, err := c.Get(ctx, "pipeline", c.RepositoryURL(Braced(repository), "pipelines", Braced(id)), true)
	fetched := c.now()
	if IsNotFound(err) {
		return identity.Pipeline{PipelineUUID: id, RepositoryUUID: repository, FetchedAt: fetched}, nil
	}
	if err != nil {
		return identity.Pipeline{}, err
	}
	p, err := parsePipeline(body, id)
	if err != nil {
		return identity.Pipeline{}, err
	}
	p.PipelineUUID, p.RepositoryUUID, p.FetchedAt = id, repository, fetched
	return p, nil
}

// parsePipeline reads a pipeline object.
func parsePipeline(body []byte, id string) (identity.Pipeline, error) {
	var d struct {
		UUID        string `json:"uuid"`
		BuildNumber int64  `json:"build_number"`
		Creator     struct {
			UUID string `json:"uuid"`
			Name string `json:"display_name"`
		} `json:"creator"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.Pipeline{}, fmt.Errorf("read a pipeline: %w", err)
	}
	got, ok := uuid.Parse(d.UUID)
	switch {
	case !ok || got != id:
		return identity.Pipeline{}, fmt.Errorf("read a pipeline: the API returned another one, %s", printable.Quote(d.UUID))
	case d.BuildNumber <= 0:
		return identity.Pipeline{}, fmt.Errorf("read a pipeline: its build_number is %d", d.BuildNumber)
	}
	p := identity.Pipeline{BuildNumber: d.BuildNumber}
	p.CreatorUUID, _ = uuid.Parse(d.Creator.UUID)
	if isName(d.Creator.Name) {
		p.Creator = d.Creator.Name
	}
	return p, nil
}
