package bitbuckettest

import (
	"slices"
	"strings"
	"time"
)

// The views are what REST 2.0 shows of the model: fields of Atlassian's OpenAPI
// document, and for environments those that live answers add. The caller holds
// mu.

const website = "https://bitbucket.org/"

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000-07:00") }

func link(href string) map[string]any { return map[string]any{"href": href} }

func (s *Server) viewWorkspace(w *Workspace) map[string]any {
	return map[string]any{
		"type": "workspace", "uuid": Braced(w.UUID), "slug": w.slug, "name": w.slug,
		"is_private": true, "created_on": timestamp(w.created),
		"links": map[string]any{"self": link(s.APIURL() + "/workspaces/" + w.slug), "html": link(website + w.slug + "/")},
	}
}

// briefWorkspace is the workspace inside another object.
func briefWorkspace(w *Workspace) map[string]any {
	return map[string]any{"type": "workspace", "uuid": Braced(w.UUID), "slug": w.slug, "name": w.slug}
}

func (s *Server) viewRepository(r *Repository) map[string]any {
	w, full := r.workspace, r.fullName()
	return map[string]any{
		"type": "repository", "uuid": Braced(r.UUID), "full_name": full, "name": r.name, "slug": slugify(r.name),
		"is_private": true, "scm": "git", "created_on": timestamp(r.created),
		"project":    map[string]any{"type": "project", "key": r.project, "name": r.project, "uuid": Braced(w.projects[r.project])},
		"owner":      map[string]any{"type": "team", "uuid": Braced(w.UUID), "username": w.slug, "display_name": w.slug},
		"workspace":  briefWorkspace(w),
		"mainbranch": map[string]any{"type": "branch", "name": "main"},
		"links": map[string]any{
			"self": link(s.APIURL() + "/repositories/" + full),
			"html": link(website + full),
			"clone": []any{
				map[string]any{"name": "https", "href": website + full + ".git"},
				map[string]any{"name": "ssh", "href": "git@bitbucket.org:" + full + ".git"},
			},
		},
	}
}

func (s *Server) viewEnvironment(e *Environment) map[string]any {
	rank := slices.Index(environmentTypes, e.Type)
	return map[string]any{
		"type": "deployment_environment", "uuid": Braced(e.UUID), "name": e.name, "slug": slugify(e.name),
		"rank": rank, "hidden": false,
		"environment_type":         map[string]any{"type": "deployment_environment_type", "name": string(e.Type), "rank": rank},
		"category":                 map[string]any{"name": string(e.Type)},
		"restrictions":             map[string]any{"type": "deployment_restrictions_configuration", "admin_only": false},
		"lock":                     map[string]any{"type": "deployment_environment_lock_open", "name": "OPEN"},
		"environment_lock_enabled": true,
		"deployment_gate_enabled":  false,
	}
}

func (s *Server) viewPipeline(p *Pipeline) map[string]any {
	r := p.Repository
	target := map[string]any{
		"type":   "pipeline_commit_target",
		"commit": map[string]any{"type": "commit", "hash": p.Commit},
	}
	for _, ref := range [][2]string{{"branch", p.Branch}, {"tag", p.Tag}} {
		if ref[1] != "" {
			target["type"], target["ref_type"], target["ref_name"] = "pipeline_ref_target", ref[0], ref[1]
			target["selector"] = map[string]any{"type": "default"}
		}
	}
	view := map[string]any{
		"type": "pipeline", "uuid": Braced(p.UUID), "build_number": p.BuildNumber,
		"creator": map[string]any{
			"type": "user", "display_name": "Robin Builder", "nickname": "robin",
			"uuid": Braced(r.workspace.creator), "account_id": "557058:" + r.workspace.creator,
		},
		"repository": map[string]any{"type": "repository", "uuid": Braced(r.UUID), "full_name": r.fullName(), "name": r.name},
		"target":     target,
		"trigger":    map[string]any{"type": "pipeline_trigger_push", "name": "PUSH"},
		"state":      viewState("pipeline", p.end),
		"created_on": timestamp(p.created), "build_seconds_used": 0,
	}
	if p.end != nil {
		view["completed_on"] = timestamp(p.end.time)
		view["build_seconds_used"] = int(p.end.time.Sub(p.created).Seconds())
	}
	return view
}

func (s *Server) viewStep(t *Step) map[string]any {
	view := map[string]any{
		"type": "pipeline_step", "uuid": Braced(t.UUID),
		"state": viewState("pipeline_step", t.end),
		"image": map[string]any{"name": "atlassian/default-image:5"}, "script_commands": []any{},
	}
	if !t.started.IsZero() {
		view["started_on"] = timestamp(t.started)
	} else if t.end == nil {
		view["state"] = map[string]any{"type": "pipeline_step_state_pending", "name": "PENDING"}
	}
	if t.end != nil {
		view["completed_on"] = timestamp(t.end.time)
	}
	return view
}

// viewState is the state of a pipeline or a step.
func viewState(kind string, e *end) map[string]any {
	if e == nil {
		return map[string]any{"type": kind + "_state_in_progress", "name": "IN_PROGRESS"}
	}
	return map[string]any{
		"type": kind + "_state_completed", "name": "COMPLETED",
		"result": map[string]any{"type": kind + "_state_completed_" + strings.ToLower(e.result), "name": e.result},
	}
}
