package admin

import (
	"errors"
	"testing"
)

// TestAgentCredentialsWithoutWebhooks: the client is informed of what is missing.
func TestAgentCredentialsWithoutWebhooks(t *testing.T) {
	_, directory := office(t)
	client := NewControlClient(directory)
	_, create := client.CreateAgentCredential(t.Context(), AgentCredentialRequest{Endpoint: "jenkins"})
	_, list := client.AgentCredentials(t.Context())
	_, revoke := client.RevokeAgentCredential(t.Context(), AgentCredentialRevocation{ID: "x", Reason: "y"})
	for _, err := range []error{create, list, revoke} {
		if _, ok := errors.AsType[*Mistake](err); !ok {
			t.Errorf("%v", err)
		}
	}
}
