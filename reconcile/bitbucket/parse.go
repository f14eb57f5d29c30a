package bitbucket

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// parsePage reads a page of deployments. It counts the objects that it cannot read: one
// of them may be the object that the caller searches for.
func parsePage(body []byte, workspace, repository string) (identity.DeploymentPage, error) {
	p, err := bitbucketapi.ReadPage(body)
	if err != nil {
		return identity.DeploymentPage{}, fmt.Errorf("list deployments: %w", err)
	}
	out := identity.DeploymentPage{Next: p.Next}
	for _, raw := range p.Values {
		run, err := parseRun(raw)
		if err != nil {
			out.Unread++
			continue
		}
		run.WorkspaceUUID, run.RepositoryUUID = workspace, repository
		out.Runs = append(out.Runs, run)
	}
	return out, nil
}

// parseRun reads a deployment. Atlassian's OpenAPI document has uuid, state,
// environment and release; live responses have step, the pipeline and the names of
// times that sort uses too.
func parseRun(body []byte) (identity.DeploymentRun, error) {
	type object struct{ UUID string }
	var d struct {
		UUID        string
		Environment object
		Step        object
		State       struct {
			Name, Type     string
			Status         struct{ Name string }
			StartedOn      moment `json:"started_on"`
			StartDate      moment `json:"start_date"`
			CompletedOn    moment `json:"completed_on"`
			CompletionDate moment `json:"completion_date"`
		}
		Release struct {
			CreatedOn moment `json:"created_on"`
			Pipeline  struct {
				UUID        string
				BuildNumber int64 `json:"build_number"`
			}
		}
		Deployable struct {
			CreatedOn moment `json:"created_on"`
			Pipeline  object
		}
		CreatedOn moment `json:"created_on"`
		Updated   moment `json:"last_update_time"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.DeploymentRun{}, fmt.Errorf("read a deployment: %w", err)
	}
	var r identity.DeploymentRun
	var ok bool
	if r.UUID, ok = uuid.Parse(d.UUID); !ok {
		return identity.DeploymentRun{}, errors.New("read a deployment: its uuid is missing")
	}
	// Objects may be missing; a UUID that is present must be valid.
	for _, part := range []struct {
		to   *string
		from string
	}{
		{&r.DeploymentUUID, d.Environment.UUID}, {&r.StepUUID, d.Step.UUID},
		{&r.PipelineUUID, cmp.Or(d.Release.Pipeline.UUID, d.Deployable.Pipeline.UUID)},
	} {
		if part.from == "" {
			continue
		}
		if *part.to, ok = uuid.Parse(part.from); !ok {
			return identity.DeploymentRun{}, fmt.Errorf("read a deployment: %s is not a UUID", printable.Quote(part.from))
		}
	}
	r.BuildNumber = max(0, d.Release.Pipeline.BuildNumber)
	r.State = deploymentState(d.State.Name, d.State.Type, d.State.Status.Name)
	r.Created = firstTime(d.CreatedOn, d.Release.CreatedOn, d.Deployable.CreatedOn)
	r.Started = firstTime(d.State.StartedOn, d.State.StartDate)
	r.Completed = firstTime(d.State.CompletedOn, d.State.CompletionDate)
	r.Updated = firstTime(d.Updated)
	if r.Latest().IsZero() {
		return identity.DeploymentRun{}, errors.New("read a deployment: it has no time")
	}
	return r, nil
}

func deploymentState(name, kind, status string) identity.DeploymentState {
	if name == "" {
		name = strings.TrimPrefix(kind, "deployment_state_")
	}
	switch strings.ToUpper(name) {
	case "UNDEPLOYED", "PENDING", "PAUSED":
		return identity.DeploymentWaiting
	case "IN_PROGRESS":
		return identity.DeploymentInProgress
	case "COMPLETED":
		switch strings.ToUpper(status) {
		case "SUCCESSFUL":
			return identity.DeploymentSuccessful
		case "FAILED", "ERROR":
			return identity.DeploymentFailed
		case "STOPPED":
			return identity.DeploymentStopped
		}
	}
	return identity.DeploymentUnknown
}

// parseStep reads a step of a pipeline.
func parseStep(body []byte, id string) (identity.StepRun, error) {
	var d struct {
		UUID    string
		Started moment `json:"started_on"`
		State   struct{ Name, Type string }
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.StepRun{}, fmt.Errorf("read a step: %w", err)
	}
	if got, ok := uuid.Parse(d.UUID); !ok || got != id {
		return identity.StepRun{}, fmt.Errorf("read a step: the API returned another one, %s", printable.Quote(d.UUID))
	}
	name := strings.ToUpper(cmp.Or(d.State.Name, strings.TrimPrefix(d.State.Type, "pipeline_step_state_")))
	if name == "" {
		return identity.StepRun{}, errors.New("read a step: it has no state")
	}
	return identity.StepRun{Started: firstTime(d.Started), Over: name == "COMPLETED"}, nil
}

// moment is a time that may be absent, null or empty.
type moment struct{ time.Time }

// UnmarshalJSON reads RFC 3339, between the years 2000 and 9999.
func (m *moment) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil || text == nil || *text == "" {
		return err
	}
	t, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return err
	}
	if t = t.UTC(); t.Year() < 2000 || t.Year() > 9999 {
		return fmt.Errorf("%s is not a time from 2000 to 9999", printable.Quote(*text))
	}
	m.Time = t.Truncate(time.Microsecond)
	return nil
}

func firstTime(all ...moment) time.Time {
	for _, m := range all {
		if !m.IsZero() {
			return m.Time
		}
	}
	return time.Time{}
}
