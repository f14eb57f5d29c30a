package admin

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/webhook"
)

// TestVerbsWithoutWebhooks: the client is informed of what is missing.
func TestVerbsWithoutWebhooks(t *testing.T) {
	_, directory := office(t)
	client := NewControlClient(directory)
	_, create := client.CreateAgentCredential(t.Context(), AgentCredentialRequest{Endpoint: "jenkins"})
	_, list := client.AgentCredentials(t.Context())
	_, revoke := client.RevokeAgentCredential(t.Context(), AgentCredentialRevocation{ID: "x", Reason: "y"})
	_, deliveries := client.Deliveries(t.Context(), webhook.DeliveryFilter{})
	_, show := client.ShowDelivery(t.Context(), ShowDelivery{ID: "x"})
	_, replay := client.ReplayDelivery(t.Context(), ReplayDelivery{ID: "x"})
	for _, err := range []error{create, list, revoke, deliveries, show, replay} {
		if _, ok := errors.AsType[*Mistake](err); !ok {
			t.Errorf("%v", err)
		}
	}
}
