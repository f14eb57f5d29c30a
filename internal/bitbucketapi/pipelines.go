package bitbucketapi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Pipeline is what the API reports about a pipeline and its token does not contain.
type Pipeline struct {
	BuildNumber int64     // zero: Bitbucket does not know the pipeline
	Creator     string    // the name of the account that started it; empty: not reported, or not clean text
	CreatorUUID string    // bare and lower-case; empty: not reported
	FetchedAt   time.Time // when the API reported it
}

// Pipeline fetches a pipeline, in the background: for the log and not for a decision.
// It fails while the background's half of the budget is used up or the API demands a
// pause. A pipeline that Bitbucket does not know is not an error. UUIDs are bare and
// lower-case.
func (c *Client) Pipeline(ctx context.Context, repository, id string) (Pipeline, error) {
	body, err := c.Get(ctx, "pipeline", c.RepositoryURL(Braced(repository), "pipelines", Braced(id)), true)
	fetched := c.now()
	if IsNotFound(err) {
		return Pipeline{FetchedAt: fetched}, nil
	}
	if err != nil {
		return Pipeline{}, err
	}
	p, err := parsePipeline(body, id)
	p.FetchedAt = fetched
	return p, err
}

// parsePipeline reads a pipeline object.
func parsePipeline(body []byte, id string) (Pipeline, error) {
	var d struct {
		UUID        string `json:"uuid"`
		BuildNumber int64  `json:"build_number"`
		Creator     struct {
			UUID string `json:"uuid"`
			Name string `json:"display_name"`
		} `json:"creator"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return Pipeline{}, fmt.Errorf("read a pipeline: %w", err)
	}
	got, ok := uuid.Parse(d.UUID)
	switch {
	case !ok || got != id:
		return Pipeline{}, fmt.Errorf("read a pipeline: the API returned another one, %s", printable.Quote(d.UUID))
	case d.BuildNumber <= 0:
		return Pipeline{}, fmt.Errorf("read a pipeline: its build_number is %d", d.BuildNumber)
	}
	p := Pipeline{BuildNumber: d.BuildNumber}
	p.CreatorUUID, _ = uuid.Parse(d.Creator.UUID)
	if isName(d.Creator.Name) {
		p.Creator = d.Creator.Name
	}
	return p, nil
}
