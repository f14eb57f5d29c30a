package admin

import (
	"context"
	"net/http"
	"time"
)

// The verbs about credentials of webhook agents.
const (
	pathAgentCredentials      = "/v1/webhook/agent-credentials"
	pathAgentCredentialCreate = "/v1/webhook/agent-credentials/create"
	pathAgentCredentialRevoke = "/v1/webhook/agent-credentials/revoke"
)

// AgentCredentials are the credentials by which webhook agents fetch deliveries.
type AgentCredentials interface {
	Create(ctx context.Context, by Operator, r AgentCredentialRequest) (CreatedAgentCredential, error)
	List(ctx context.Context) ([]AgentCredential, error)
	Revoke(ctx context.Context, by Operator, r AgentCredentialRevocation) (AgentCredential, error)
}

// AgentCredentialRequest requests a credential for an endpoint.
type AgentCredentialRequest struct {
	Endpoint    string `json:"endpoint"`
	Description string `json:"description,omitempty"`
}

// CreatedAgentCredential is a new credential with its secret, which is stored nowhere.
type CreatedAgentCredential struct {
	ID         string `json:"id"`
	Endpoint   string `json:"endpoint"`
	Credential string `json:"credential"`
}

// AgentCredentialRevocation requests that a credential becomes invalid.
type AgentCredentialRevocation struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// AgentCredential is a credential without its secret. A nil time means never.
type AgentCredential struct {
	ID            string     `json:"id"`
	Endpoint      string     `json:"endpoint"`
	Description   string     `json:"description,omitempty"`
	CreatedAt     time.Time  `json:"created_at"`
	CreatedBy     string     `json:"created_by"`
	LastUsedAt    *time.Time `json:"last_used_at,omitempty"`
	RevokedAt     *time.Time `json:"revoked_at,omitempty"`
	RevokedBy     string     `json:"revoked_by,omitempty"`
	RevokedReason string     `json:"revoked_reason,omitempty"`
}

// CreateAgentCredential creates a credential.
func (c *ControlClient) CreateAgentCredential(ctx context.Context, r AgentCredentialRequest) (CreatedAgentCredential, error) {
	return postJSON[CreatedAgentCredential](ctx, c, http.MethodPost, pathAgentCredentialCreate, r)
}

// AgentCredentials lists all credentials, revoked ones included.
func (c *ControlClient) AgentCredentials(ctx context.Context) ([]AgentCredential, error) {
	return postJSON[[]AgentCredential](ctx, c, http.MethodGet, pathAgentCredentials, nil)
}

// RevokeAgentCredential revokes a credential in every instance.
func (c *ControlClient) RevokeAgentCredential(ctx context.Context, r AgentCredentialRevocation) (AgentCredential, error) {
	return postJSON[AgentCredential](ctx, c, http.MethodPost, pathAgentCredentialRevoke, r)
}
