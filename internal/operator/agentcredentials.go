package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/webhook/agent"
)

// The actions on credentials of webhook agents.
const (
	actionAgentCredentialCreated = "webhook_agent_credential_created"
	actionAgentCredentialRevoked = "webhook_agent_credential_revoked"
)

// AgentCredentials store the credentials of webhook agents for all instances.
type AgentCredentials interface {
	// Add stores a credential. by names the operator who created it.
	Add(ctx context.Context, c agent.Credential, description, by string) error
	// List returns all credentials, revoked ones included.
	List(ctx context.Context) ([]agent.StoredCredential, error)
	// Revoke revokes a credential, and reports whether it was valid before.
	Revoke(ctx context.Context, id, by, reason string) (revoked bool, err error)
}

// agentCredentials create, list and revoke the credentials of webhook agents.
type agentCredentials struct{ Config }

// Create makes a credential. It is recorded before it is stored.
func (c agentCredentials) Create(ctx context.Context, by admin.Operator, r admin.AgentCredentialRequest) (admin.CreatedAgentCredential, error) {
	if err := checkReason(r.Description); err != nil {
		return admin.CreatedAgentCredential{}, err
	}
	if !slices.Contains(c.AgentEndpoints, r.Endpoint) {
		return admin.CreatedAgentCredential{}, &admin.Mistake{Message: fmt.Sprintf("%q is not an endpoint with agent: true; such endpoints: %s", r.Endpoint, strings.Join(c.AgentEndpoints, ", "))}
	}
	text, credential := agent.NewCredential(r.Endpoint)
	if err := c.record(ctx, by, actionAgentCredentialCreated, r.Description, attribute("endpoint", r.Endpoint), attribute("credential_id", credential.ID)); err != nil {
		return admin.CreatedAgentCredential{}, fmt.Errorf("no credential was created: %w", err)
	}
	if err := c.Agents.Add(ctx, credential, r.Description, by.String()); err != nil {
		return admin.CreatedAgentCredential{}, err
	}
	return admin.CreatedAgentCredential{ID: credential.ID, Endpoint: credential.Endpoint, Credential: text}, nil
}

// List lists all credentials.
func (c agentCredentials) List(ctx context.Context) ([]admin.AgentCredential, error) {
	list, err := c.Agents.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]admin.AgentCredential, len(list))
	for i, l := range list {
		out[i] = admin.AgentCredential{
			ID: l.ID, Endpoint: l.Endpoint, Description: l.Description, CreatedAt: l.CreatedAt.UTC(), CreatedBy: l.CreatedBy,
			LastUsedAt: timeOrNil(l.LastUsedAt), RevokedAt: timeOrNil(l.RevokedAt), RevokedBy: l.RevokedBy, RevokedReason: l.RevokedReason,
		}
	}
	return out, nil
}

// Revoke revokes a credential and then records the revocation: an outage of the audit log
// does not prevent a revocation.
func (c agentCredentials) Revoke(ctx context.Context, by admin.Operator, r admin.AgentCredentialRevocation) (admin.AgentCredential, error) {
	if err := checkReason(r.Reason); err != nil {
		return admin.AgentCredential{}, err
	}
	if strings.TrimSpace(r.Reason) == "" {
		return admin.AgentCredential{}, &admin.Mistake{Message: "a reason is needed: it is recorded in the audit log"}
	}
	list, err := c.List(ctx)
	if err != nil {
		return admin.AgentCredential{}, err
	}
	i := slices.IndexFunc(list, func(l admin.AgentCredential) bool { return l.ID == r.ID })
	switch {
	case i < 0:
		return admin.AgentCredential{}, &admin.Mistake{Message: fmt.Sprintf("%q is not the id of a credential: see `sallyport webhook agent-credential list`", r.ID)}
	case list[i].RevokedAt != nil:
		return admin.AgentCredential{}, &admin.Mistake{Message: fmt.Sprintf("the credential %s was revoked at %s", r.ID, list[i].RevokedAt.Format(time.RFC3339))}
	}
	if _, err := c.Agents.Revoke(ctx, r.ID, by.String(), r.Reason); err != nil {
		return admin.AgentCredential{}, err
	}
	if err := c.record(ctx, by, actionAgentCredentialRevoked, r.Reason, attribute("endpoint", list[i].Endpoint), attribute("credential_id", r.ID)); err != nil {
		return list[i], fmt.Errorf("the credential %s is revoked, but %w", r.ID, err)
	}
	return list[i], nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
