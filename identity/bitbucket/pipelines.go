package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrNoAPI is the error of a question about a workspace for which no REST API is
// configured.
var ErrNoAPI = errors.New("bitbucket: no REST API is configured for this workspace")

// Pipeline is what Bitbucket says of a pipeline and its token does not.
type Pipeline struct {
	BuildNumber int64     // as people know it; zero: Bitbucket does not know the pipeline
	Creator     string    // the name of whoever started it; empty: not told, or not fit to be shown
	CreatorUUID string    // bare and lower-case; empty: not told
	FetchedAt   time.Time // when it said so
}

// Pipeline asks the REST API for a pipeline. It is for the record and not for a
// decision: it leaves to names the half of the request budget that steps wait
// for, and fails while that half is used up or the API asks to be left alone. A
// pipeline that Bitbucket does not know is not an error. UUIDs are bare and lower-case.
func (a *Authenticator) Pipeline(ctx context.Context, workspace, repository, pipeline string) (Pipeline, error) {
	for _, i := range a.list {
		if i.workspace.UUID == workspace && i.names != nil {
			return i.names.rest.pipeline(ctx, repository, pipeline)
		}
	}
	return Pipeline{}, ErrNoAPI
}

func (r *rest) pipeline(ctx context.Context, repository, uuid string) (Pipeline, error) {
	address := r.path("repositories", braced(r.workspace), braced(repository), "pipelines", braced(uuid))
	body, err := r.get(ctx, "pipeline", address, true)
	fetched := r.now()
	if isAbsence(err) {
		return Pipeline{FetchedAt: fetched}, nil
	}
	if err != nil {
		return Pipeline{}, err
	}
	p, err := parsePipeline(body, uuid)
	p.FetchedAt = fetched
	return p, err
}

// parsePipeline reads a pipeline object. What is in it goes into the log alone.
func parsePipeline(body []byte, uuid string) (Pipeline, error) {
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
	got, ok := parseUUID(d.UUID)
	switch {
	case !ok || got != uuid:
		return Pipeline{}, fmt.Errorf("read a pipeline: the API answered with another one, %s", quote(d.UUID))
	case d.BuildNumber <= 0:
		return Pipeline{}, fmt.Errorf("read a pipeline: its build_number is %d", d.BuildNumber)
	}
	p := Pipeline{BuildNumber: d.BuildNumber}
	p.CreatorUUID, _ = parseUUID(d.Creator.UUID)
	if len(d.Creator.Name) <= maxNameBytes && isCleanText(d.Creator.Name) {
		p.Creator = d.Creator.Name
	}
	return p, nil
}
