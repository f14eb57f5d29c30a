package bitbucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// workspaceMistake says that the configuration's workspace_uuid is not that of its
// workspace: no token of the workspace would be accepted, or those of another.
type workspaceMistake struct{ text string }

func (e *workspaceMistake) Error() string { return e.text }

// confirmWorkspace asks the API for the workspace of the configured UUID. The error
// is a [*workspaceMistake] where the API knows better, and another one where it
// cannot be asked, which names what to correct.
func (r *rest) confirmWorkspace(ctx context.Context, slug string) error {
	bearer, err := r.api.Token()
	if err != nil {
		return fmt.Errorf("read the access token of the API: %w", err)
	}
	body, err := r.client.get(ctx, r.path("workspaces", braced(r.workspace)), bearer)
	if answer, ok := errors.AsType[*statusError](err); ok {
		switch answer.status {
		case http.StatusNotFound:
			return &workspaceMistake{fmt.Sprintf("the API knows no workspace with the workspace_uuid {%s}: copy it from the workspace's Settings, or from a step's BITBUCKET_WORKSPACE_UUID", r.workspace)}
		case http.StatusUnauthorized:
			return fmt.Errorf("the API does not accept the access token: put a valid one in api.token_file: %w", err)
		case http.StatusForbidden:
			return fmt.Errorf("the access token may not read the workspace: it is one of another workspace, or lacks a scope (repository, pipeline; pullrequest for policy.approvals): %w", err)
		}
	}
	if err != nil {
		return err
	}
	var w struct {
		Slug string `json:"slug"`
		UUID string `json:"uuid"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("read the workspace: %w", err)
	}
	uuid, _ := parseUUID(w.UUID)
	if w.Slug != slug || uuid != r.workspace {
		return &workspaceMistake{fmt.Sprintf("the workspace_uuid {%s} is that of the workspace %s: correct workspace_uuid, or workspace", r.workspace, quote(w.Slug))}
	}
	return nil
}

// CheckAPI asks the API of every workspace that has one whether the access token and
// the workspace's UUID are right. The errors name the workspace and what to correct.
func (a *Authenticator) CheckAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var errs []error
	for _, i := range a.list {
		if i.names == nil {
			continue
		}
		if err := i.names.rest.confirmWorkspace(ctx, i.workspace.Slug); err != nil {
			errs = append(errs, fmt.Errorf("workspace %s: %w", i.workspace.Slug, err))
		}
	}
	return errors.Join(errs...)
}
