package proxy

import (
	"cmp"
	"log/slog"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
)

// subject is who a principal's use counts for.
func subject(p *identity.Principal) fair.Subject {
	if p == nil {
		return fair.Subject{}
	}
	return fair.Subject{Issuer: p.Issuer, Repository: p.Repository.UUID, Step: p.Step.UUID}
}

func sourceOf(p *identity.Principal) audit.Source {
	return audit.Source{Repository: cmp.Or(p.Repository.UUID, "unknown"), Step: p.Step.UUID}
}

func copyPrincipal(e *audit.Event, p *identity.Principal) {
	if p == nil {
		return
	}
	e.Issuer, e.CredentialKind = p.Issuer, p.CredentialKind
	e.WorkspaceUUID, e.Workspace = p.Workspace.UUID, p.Workspace.Slug
	e.RepositoryUUID, e.Repository, e.Project = p.Repository.UUID, p.Repository.FullName, p.Repository.Project
	e.PipelineUUID, e.StepUUID, e.Branch = p.Pipeline.UUID, p.Step.UUID, p.Branch
	if d := p.Deployment; d != nil {
		e.DeploymentUUID, e.DeploymentType = d.UUID, d.Type
		e.Deployment = cmp.Or(d.Slug, d.Name)
	}
}

func appendPrincipal(attrs []slog.Attr, p *identity.Principal) []slog.Attr {
	if p == nil {
		return attrs
	}
	attrs = append(attrs,
		slog.String("workspace_uuid", p.Workspace.UUID),
		slog.String("repository", cmp.Or(p.Repository.FullName, p.Repository.UUID)),
		slog.String("step_uuid", p.Step.UUID),
	)
	if d := p.Deployment; d != nil {
		attrs = append(attrs, slog.String("deployment", cmp.Or(d.Slug, d.Name, d.UUID)))
	}
	return attrs
}
