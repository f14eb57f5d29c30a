package bitbucketapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
)

const maxNameBytes = 255

// Repository fetches the name of one repository of the workspace.
func (c *Client) Repository(ctx context.Context, id string, background bool) (identity.KnownName, error) {
	body, err := c.Get(ctx, identity.NameOfRepository, c.RepositoryURL(Braced(id)), background)
	if err != nil {
		return identity.KnownName{}, err
	}
	n, err := parseRepository(body, c.workspace)
	if err == nil && n.RepositoryUUID != id {
		err = fmt.Errorf("the API returned another repository, {%s}", n.RepositoryUUID)
	}
	n.FetchedAt = c.now()
	return n, err
}

// Environment fetches the name of one deployment environment of a repository.
func (c *Client) Environment(ctx context.Context, repository, id string, background bool) (identity.KnownName, error) {
	body, err := c.Get(ctx, identity.NameOfDeployment, c.RepositoryURL(Braced(repository), "environments", Braced(id)), background)
	if err != nil {
		return identity.KnownName{}, err
	}
	n, err := parseEnvironment(body, c.workspace, repository)
	if err == nil && n.DeploymentUUID != id {
		err = fmt.Errorf("the API returned another environment, {%s}", n.DeploymentUUID)
	}
	n.FetchedAt = c.now()
	return n, err
}

// Repositories lists the names of the workspace's repositories in the background. It
// leaves out objects that it cannot read.
func (c *Client) Repositories(ctx context.Context, yield func(identity.KnownName)) error {
	return c.names(ctx, "repositories", c.URL("repositories", Braced(c.workspace)), yield, func(raw []byte) (identity.KnownName, error) {
		return parseRepository(raw, c.workspace)
	})
}

// Environments lists the names of a repository's deployment environments in the
// background. It leaves out objects that it cannot read.
func (c *Client) Environments(ctx context.Context, repository string, yield func(identity.KnownName)) error {
	return c.names(ctx, "deployments", c.RepositoryURL(Braced(repository), "environments"), yield, func(raw []byte) (identity.KnownName, error) {
		return parseEnvironment(raw, c.workspace, repository)
	})
}

func (c *Client) names(ctx context.Context, subject, address string, yield func(identity.KnownName), parse func([]byte) (identity.KnownName, error)) error {
	err := c.Pages(ctx, address+"?pagelen=100", MaxPages, c.Background(subject), func(p Page) error {
		for _, raw := range p.Values {
			if n, err := parse(raw); err == nil {
				n.FetchedAt = c.now()
				yield(n)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", subject, err)
	}
	return nil
}

// AllRepositories lists the names of the workspace's repositories, each once. It
// returns those that it read, with the error that ended the list; an object that it
// cannot read is such an error.
func (c *Client) AllRepositories(ctx context.Context, fetch Fetch, each func(read int, p Page) error) ([]identity.KnownName, error) {
	var all []identity.KnownName
	seen := map[string]bool{}
	err := c.Pages(ctx, c.URL("repositories", Braced(c.workspace))+"?pagelen=100", MaxPages, fetch, func(p Page) error {
		for _, raw := range p.Values {
			n, err := parseRepository(raw, c.workspace)
			if err != nil {
				return err
			}
			// A repository that moves to a later page meanwhile is listed twice.
			if !seen[n.RepositoryUUID] {
				seen[n.RepositoryUUID] = true
				n.FetchedAt = c.now()
				all = append(all, n)
			}
		}
		return each(len(all), p)
	})
	return all, err
}

// parseRepository reads a repository object. Policy uses its names to choose the folder
// of rules, so their form is checked.
func parseRepository(body []byte, workspace string) (identity.KnownName, error) {
	var d struct {
		UUID      string                       `json:"uuid"`
		FullName  string                       `json:"full_name"`
		Project   struct{ Key string }         `json:"project"`
		Workspace *struct{ UUID, Slug string } `json:"workspace"`
	}
	var none identity.KnownName
	if err := json.Unmarshal(body, &d); err != nil {
		return none, fmt.Errorf("read a repository: %w", err)
	}
	id, ok := uuid.Parse(d.UUID)
	owner, slug, cut := strings.Cut(d.FullName, "/")
	switch {
	case !ok:
		return none, errors.New("read a repository: its uuid is missing")
	case !cut || !IsSlug(owner) || !IsSlug(slug):
		return none, fmt.Errorf("read a repository: its full_name %s is not a workspace and a repository", printable.Quote(d.FullName))
	case !isName(d.Project.Key):
		return none, errors.New("read a repository: its project's key is not clean text")
	}
	if d.Workspace != nil {
		if w, ok := uuid.Parse(d.Workspace.UUID); !ok || w != workspace || d.Workspace.Slug != owner {
			return none, fmt.Errorf("read a repository: it belongs to another workspace, %s", printable.Quote(d.Workspace.Slug))
		}
	}
	return identity.KnownName{
		Kind: identity.NameOfRepository, WorkspaceUUID: workspace, RepositoryUUID: id,
		WorkspaceSlug: owner, FullName: d.FullName, Project: d.Project.Key,
	}, nil
}

// parseEnvironment reads a deployment environment. Atlassian's OpenAPI document has
// uuid and name only; live responses have slug and environment_type too.
func parseEnvironment(body []byte, workspace, repository string) (identity.KnownName, error) {
	var d struct {
		UUID, Name, Slug string
		Type             struct{ Name string } `json:"environment_type"`
	}
	var none identity.KnownName
	if err := json.Unmarshal(body, &d); err != nil {
		return none, fmt.Errorf("read a deployment environment: %w", err)
	}
	id, ok := uuid.Parse(d.UUID)
	switch {
	case !ok:
		return none, errors.New("read a deployment environment: its uuid is missing")
	case d.Name == "" || !isName(d.Name):
		return none, errors.New("read a deployment environment: its name is not clean text")
	}
	if !IsSlug(d.Slug) {
		d.Slug = ""
	}
	kind := strings.ToLower(d.Type.Name)
	switch kind {
	case "test", "staging", "production":
	default:
		kind = "" // a rule that requires a type does not match
	}
	return identity.KnownName{
		Kind: identity.NameOfDeployment, WorkspaceUUID: workspace, RepositoryUUID: repository, DeploymentUUID: id,
		Name: d.Name, Slug: d.Slug, Type: kind,
	}, nil
}

// isName reports whether a name that a person chose can be shown, logged and stored.
func isName(s string) bool { return len(s) <= maxNameBytes && printable.IsClean(s) }

// IsSlug reports whether s can be a segment of a URL's path and of a file's.
func IsSlug(s string) bool {
	if s == "" || len(s) > maxNameBytes || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
