package components

import (
	"context"
	"fmt"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/rego"
)

// Repositories lists the full names of the repositories of every workspace.
func Repositories(ctx context.Context, cfg *config.Config) ([]string, error) {
	names := []string{}
	for _, w := range Identity(cfg).Workspaces {
		list, err := bitbucketapi.ListRepositories(ctx, w.Slug, w.UUID, w.API, nil)
		if err != nil {
			return nil, fmt.Errorf("the repositories that the policy names are not compared with Bitbucket's: %w", err)
		}
		for _, r := range list {
			names = append(names, r.FullName)
		}
	}
	return names, nil
}

// UnknownRepositories are the places of a policy that name a repository which no
// workspace has.
func UnknownRepositories(ctx context.Context, cfg *config.Config, set *rego.Set) (rego.Errors, error) {
	names, err := Repositories(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return rego.UnknownRepositories(ctx, set, names)
}
