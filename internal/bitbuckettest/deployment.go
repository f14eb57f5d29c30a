package bitbuckettest

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/uuid"
)

// SetDeployments sets the form of lists of deployments.
func (s *Server) SetDeployments(d Deployments) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deployments = d
}

// DeploymentUUID returns the UUID of what Bitbucket calls a deployment: this
// step's run in its environment. It is empty where the step deploys nothing.
func (t *Step) DeploymentUUID() string {
	if t.Environment == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(t.UUID))
	return uuid.NewV4From(bytes.NewReader(sum[:]))
}

// deploying returns the steps of a repository that deploy, the oldest first. The
// caller holds mu.
func (r *Repository) deploying() []*Step {
	var all []*Step
	for _, p := range r.pipelines {
		for _, t := range p.steps {
			if t.Environment != nil {
				all = append(all, t)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Step) int { return a.created.Compare(b.created) })
	return all
}

func (s *Server) listDeployments(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	all := r.deploying()
	if c.query.Has("q") {
		return failure(http.StatusBadRequest, "bitbuckettest does not emulate the parameter q")
	}
	if c.query.Has("sort") {
		switch by := c.query.Get("sort"); {
		case s.deployments.RefuseSort:
			return failure(http.StatusBadRequest, "Invalid sort")
		case s.deployments.IgnoreSort:
		case by == "-state.started_on":
			// What has not begun comes last, as a null does.
			slices.SortStableFunc(all, func(a, b *Step) int { return b.started.Compare(a.started) })
		default:
			return failure(http.StatusBadRequest, "bitbuckettest does not emulate sort=%s", by)
		}
	}
	return onePage(s, c, all, s.viewDeployment)
}

func (s *Server) getDeployment(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	for _, t := range r.deploying() {
		if identifies(c.args[2], t.DeploymentUUID(), "") {
			return answer{status: http.StatusOK, body: s.viewDeployment(t)}
		}
	}
	return failure(http.StatusNotFound, "Deployment %s not found", c.args[2])
}

// viewDeployment has the fields of Atlassian's OpenAPI document (deployment,
// deployment_state, deployment_release), and those that live answers add: the
// step, the pipeline of the release, and the times of the state under the names
// that sort knows.
func (s *Server) viewDeployment(t *Step) map[string]any {
	p := t.Pipeline
	release := map[string]any{
		"type": "deployment_release", "uuid": Braced(t.DeploymentUUID()), "name": "#" + strconv.Itoa(p.BuildNumber),
		"url":        website + p.Repository.fullName() + "/pipelines/results/" + strconv.Itoa(p.BuildNumber),
		"commit":     map[string]any{"type": "commit", "hash": p.Commit},
		"created_on": timestamp(t.created),
	}
	view := map[string]any{
		"type": "deployment", "uuid": Braced(t.DeploymentUUID()),
		"environment": map[string]any{"type": "deployment_environment", "uuid": Braced(t.Environment.UUID)},
		"release":     release, "state": s.viewDeploymentState(t),
	}
	if s.deployments.NoPipeline {
		return view
	}
	release["pipeline"] = map[string]any{"type": "pipeline", "uuid": Braced(p.UUID), "build_number": p.BuildNumber}
	if !s.deployments.NoStep {
		view["step"] = map[string]any{"type": "pipeline_step", "uuid": Braced(t.UUID)}
		view["last_update_time"] = timestamp(t.changed())
	}
	return view
}

func (t *Step) changed() time.Time {
	switch {
	case t.end != nil:
		return t.end.time
	case !t.started.IsZero():
		return t.started
	}
	return t.created
}

func (s *Server) viewDeploymentState(t *Step) map[string]any {
	state := map[string]any{"type": "deployment_state_undeployed", "name": "UNDEPLOYED"}
	begin, finish := "started_on", "completed_on"
	if s.deployments.NoStep {
		begin, finish = "start_date", "completion_date"
	}
	switch {
	case t.end != nil:
		state["type"], state["name"] = "deployment_state_completed", "COMPLETED"
		state["status"] = map[string]any{"type": "deployment_state_completed_status_" + strings.ToLower(t.end.result), "name": t.end.result}
		state[finish] = timestamp(t.end.time)
	case !t.started.IsZero():
		state["type"], state["name"] = "deployment_state_in_progress", "IN_PROGRESS"
	}
	if !t.started.IsZero() {
		state[begin] = timestamp(t.started)
	}
	return state
}
