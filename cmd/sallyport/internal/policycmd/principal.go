package policycmd

import (
	"encoding/json"
	"fmt"

	"github.com/sallyport/sallyport/identity"
)

// principalOf reads the principal of a recorded input.
func principalOf(input []byte) (*identity.Principal, error) {
	var flags struct {
		Principal struct {
			Kind       string
			Workspace  struct{ UUID, Slug string }
			Repository struct {
				UUID, Project string
				FullName      string `json:"full_name"`
			}
			Deployment     *struct{ UUID, Name, Slug, Type string }
			Pipeline, Step struct{ UUID string }
			Branch         string
		}
	}
	if err := json.Unmarshal(input, &flags); err != nil {
		return nil, fmt.Errorf("its input cannot be read: %w", err)
	}
	a := &flags.Principal
	p := &identity.Principal{
		Kind: a.Kind, Branch: a.Branch, Workspace: identity.Workspace(a.Workspace),
		Repository: identity.Repository{UUID: a.Repository.UUID, FullName: a.Repository.FullName, Project: a.Repository.Project},
		Pipeline:   identity.Run(a.Pipeline), Step: identity.Run(a.Step),
	}
	if a.Deployment != nil {
		p.Deployment = &identity.Deployment{UUID: a.Deployment.UUID, Name: a.Deployment.Name, Slug: a.Deployment.Slug, Type: a.Deployment.Type}
	}
	return p, nil
}
