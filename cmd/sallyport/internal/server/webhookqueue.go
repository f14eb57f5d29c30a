package server

import (
	"context"

	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// openWebhookQueue opens the queue of accepted deliveries.
func (s *server) openWebhookQueue(ctx context.Context) error {
	if s.config.Webhooks == nil {
		return nil
	}
	queue, err := webhookpg.Open(ctx, webhookpg.Config{URL: s.databaseURL, Recorder: s.audit, Log: s.log.With("component", "webhooks")})
	if err != nil {
		return err
	}
	s.atClose(queue.Close)
	s.webhookQueue = queue
	return nil
}
