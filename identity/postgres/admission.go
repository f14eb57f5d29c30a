package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

const maxPrincipal = 64 << 10 // bytes of a storedPrincipal as JSON

// admission is a token that was verified and admitted.
type admission struct {
	digest           digest
	step, repository string
	issuer           string
	admittedAt       time.Time
	expires          time.Time
	principal        []byte
}

// storedPrincipal is a principal as JSON in the database: UUIDs and the token's claims. It has
// no names: these are looked up at each use.
type storedPrincipal struct {
	Kind       string `json:"kind"`
	Issuer     string `json:"issuer"`
	Workspace  string `json:"workspace_uuid"`
	Repository string `json:"repository_uuid"`
	Deployment string `json:"deployment_uuid,omitempty"`
	Pipeline   string `json:"pipeline_uuid"`
	Step       string `json:"step_uuid"`
	Branch     string `json:"branch,omitempty"`
}

// newAdmission returns the admission of p at now. The error states why p cannot be stored.
func newAdmission(p *identity.Principal, now time.Time) (admission, error) {
	k := storedPrincipal{
		Kind: p.Kind, Issuer: p.Issuer, Workspace: p.Workspace.UUID, Repository: p.Repository.UUID,
		Pipeline: p.Pipeline.UUID, Step: p.Step.UUID, Branch: p.Branch,
	}
	if p.Deployment != nil {
		k.Deployment = p.Deployment.UUID
	}
	switch {
	case p.CredentialDigest == digest{}:
		return admission{}, errors.New("it has no digest")
	case !p.Expires.After(now):
		return admission{}, errors.New("its token has expired")
	case !uuid.IsCanonical(k.Step) || !uuid.IsCanonical(k.Repository) || !uuid.IsCanonical(k.Workspace) || !uuid.IsCanonical(k.Pipeline) || k.Deployment != "" && !uuid.IsCanonical(k.Deployment):
		return admission{}, errors.New("one of its UUIDs is not in canonical form")
	case !database.IsText(k.Issuer, maxText) || !database.IsText(k.Branch, maxPrincipal/8):
		return admission{}, errors.New("its issuer or branch is not valid text, or is too long")
	}
	principal, err := json.Marshal(k)
	return admission{
		digest: p.CredentialDigest, step: k.Step, repository: k.Repository, issuer: k.Issuer,
		admittedAt: now, expires: database.Timestamp(p.Expires), principal: principal,
	}, err
}

// rebuild parses a storedPrincipal. The result has no names.
func rebuild(raw []byte) (*identity.Principal, error) {
	var k storedPrincipal
	if err := json.Unmarshal(raw, &k); err != nil {
		return nil, fmt.Errorf("read its principal: %w", err)
	}
	p := &identity.Principal{
		Kind: k.Kind, Issuer: k.Issuer,
		Workspace:  identity.Workspace{UUID: k.Workspace},
		Repository: identity.Repository{UUID: k.Repository},
		Pipeline:   identity.Run{UUID: k.Pipeline},
		Step:       identity.Run{UUID: k.Step},
		Branch:     k.Branch, CredentialKind: identity.CredentialAdmitted,
	}
	if k.Deployment != "" {
		p.Deployment = &identity.Deployment{UUID: k.Deployment}
	}
	return p, nil
}
