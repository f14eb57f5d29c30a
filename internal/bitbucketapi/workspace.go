package bitbucketapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

// WorkspaceError reports that the configured workspace_uuid is not that of the
// workspace: no token of the workspace would be accepted, or tokens of another would.
type WorkspaceError struct{ text string }

func (e *WorkspaceError) Error() string { return e.text }

// CheckWorkspace fetches the workspace of the client's UUID, and compares its slug. The
// error is a [*WorkspaceError] if the API contradicts the configuration. Any other error
// means that the API could not be queried; it names what to correct. The request does
// not use the budget.
func (c *Client) CheckWorkspace(ctx context.Context, slug string) error {
	bearer, err := c.token()
	if err != nil {
		return err
	}
	body, err := c.http.Get(ctx, c.URL("workspaces", Braced(c.workspace)), bearer)
	if answer, ok := errors.AsType[*StatusError](err); ok {
		switch answer.Status {
		case http.StatusNotFound:
			return &WorkspaceError{fmt.Sprintf("the API knows no workspace with the workspace_uuid {%s}: copy it from the workspace's Settings, or from a step's BITBUCKET_WORKSPACE_UUID", c.workspace)}
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
	id, _ := uuid.Parse(w.UUID)
	if w.Slug != slug || id != c.workspace {
		return &WorkspaceError{fmt.Sprintf("the workspace_uuid {%s} is that of the workspace %s: correct workspace_uuid, or workspace", c.workspace, printable.Quote(w.Slug))}
	}
	return nil
}
