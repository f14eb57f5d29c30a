package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
)

// API returns the client of a workspace's REST API, which shares its budget with the
// authenticator's lookups, or [bitbucketapi.ErrNoAPI]. The UUID is bare and lower-case.
func (a *Authenticator) API(workspaceUUID string) (*bitbucketapi.Client, error) {
	for _, i := range a.list {
		if i.workspace.UUID == workspaceUUID && i.names != nil {
			return i.names.api, nil
		}
	}
	return nil, bitbucketapi.ErrNoAPI
}

// CheckAPI checks the access token and the UUID of every workspace with an API. The
// errors name the workspace and what to correct.
func (a *Authenticator) CheckAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var errs []error
	for _, i := range a.list {
		if i.names == nil {
			continue
		}
		if err := i.names.api.CheckWorkspace(ctx, i.workspace.Slug); err != nil {
			errs = append(errs, fmt.Errorf("workspace %s: %w", i.workspace.Slug, err))
		}
	}
	return errors.Join(errs...)
}
