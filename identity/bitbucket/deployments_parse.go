package bitbucket

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// page is one of a list: only values and next are sure to be there.
type page struct {
	Values []json.RawMessage `json:"values"`
	Next   string            `json:"next"`
}

func parsePage(body []byte) (page, error) {
	var p page
	if err := json.Unmarshal(body, &p); err != nil {
		return page{}, fmt.Errorf("read a page: %w", err)
	}
	if p.Values == nil {
		return page{}, errors.New("read a page: it has no values")
	}
	return p, nil
}

// parseDeploymentPage reads a page of deployments. What cannot be read is counted
// and not passed over: it may be what is looked for.
func parseDeploymentPage(body []byte, workspace, repository string) (identity.DeploymentPage, error) {
	p, err := parsePage(body)
	if err != nil {
		return identity.DeploymentPage{}, fmt.Errorf("list deployments: %w", err)
	}
	out := identity.DeploymentPage{Next: p.Next}
	for _, raw := range p.Values {
		run, err := parseDeploymentRun(raw)
		if err != nil {
			out.Unread++
			continue
		}
		run.WorkspaceUUID, run.RepositoryUUID = workspace, repository
		out.Runs = append(out.Runs, run)
	}
	return out, nil
}

// parseDeploymentRun reads a deployment. Atlassian's OpenAPI document knows uuid,
// state, environment and release; step, the pipeline and the names of times that
// sort knows are sent all the same.
func parseDeploymentRun(body []byte) (identity.DeploymentRun, error) {
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
	if r.UUID, ok = parseUUID(d.UUID); !ok {
		return identity.DeploymentRun{}, errors.New("read a deployment: its uuid is missing")
	}
	// Who it was may be missing; what is there must be a UUID.
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
		if *part.to, ok = parseUUID(part.from); !ok {
			return identity.DeploymentRun{}, fmt.Errorf("read a deployment: %s is not a UUID", quote(part.from))
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
func parseStep(body []byte, uuid string) (identity.StepRun, error) {
	var d struct {
		UUID    string
		Started moment `json:"started_on"`
		State   struct{ Name, Type string }
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.StepRun{}, fmt.Errorf("read a step: %w", err)
	}
	if got, ok := parseUUID(d.UUID); !ok || got != uuid {
		return identity.StepRun{}, fmt.Errorf("read a step: the API answered with another one, %s", quote(d.UUID))
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
		return fmt.Errorf("the time %s is none", quote(*text))
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
