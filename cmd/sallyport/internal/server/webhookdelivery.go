package server

import (
	"context"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookdelivery"
	"github.com/sallyport/sallyport/internal/operator"
)

// openDelivery opens the queue of deliveries, and what sends them to endpoints.
func (s *server) openDelivery(ctx context.Context) error {
	if s.config.Webhooks == nil {
		return nil
	}
	d, err := webhookdelivery.Open(ctx, webhookdelivery.Config{
		Webhooks: s.config.Webhooks, URL: s.databaseURL, Recorder: s.audit, Resolvers: components.AddressTexts(s.config.Egress.Resolvers), Own: s.own(),
		Metrics: s.metrics, Log: s.log.With("component", "webhooks"),
	})
	if err != nil {
		return err
	}
	s.atClose(d.Close)
	s.admin.AddDetail("webhook_endpoints", d.Detail)
	s.delivery, s.webhookQueue = d, d.Queue()
	return nil
}

// agentCredentials returns the store of the agents' credentials, and the endpoints that are
// for agents; nil: there are none.
func (s *server) agentCredentials() (operator.AgentCredentials, []string) {
	if s.delivery == nil || s.delivery.Credentials() == nil {
		return nil, nil
	}
	return s.delivery.Credentials(), s.delivery.AgentEndpoints()
}

// storedDeliveries returns the queue of deliveries for operators, and the names of all
// endpoints; nil: there are no webhooks.
func (s *server) storedDeliveries() (operator.Deliveries, []string) {
	if s.delivery == nil {
		return nil, nil
	}
	return s.delivery.Queue(), s.delivery.Endpoints()
}

// runDelivery delivers until ctx ends or [server.drainDelivery] is called.
func (s *server) runDelivery(ctx context.Context, routine func(func())) {
	if s.delivery != nil {
		routine(func() { s.delivery.Run(ctx) })
	}
}

// drainDelivery gives out no further delivery, and waits for the attempts in progress.
func (s *server) drainDelivery(ctx context.Context) {
	if s.delivery != nil {
		s.delivery.Shutdown(ctx)
	}
}
