package server

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/sallyport/sallyport/webhook"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// webhookRefreshes makes this instance refresh what a delivery to any instance asks for.
type webhookRefreshes struct {
	*webhookpg.Refreshes
	policy atomic.Int64 // requests that reached this instance
}

// openWebhookRefreshes prepares the watch of requested refreshes. An instance without a
// webhook listener follows the requests too: others receive deliveries for it.
func (s *server) openWebhookRefreshes(context.Context) error {
	watched, err := webhookpg.NewRefreshes(s.databaseURL, s.log.With("component", "webhooks"))
	if err != nil {
		return err
	}
	s.refreshes = &webhookRefreshes{Refreshes: watched}
	s.metrics.Counter("sallyport_webhook_policy_refreshes_total", "Polls of the policy source that a webhook delivery requested.",
		func() float64 { return float64(s.refreshes.policy.Load()) })
	s.metrics.Gauge("sallyport_webhook_refreshes_readable", "1 while requests of webhook deliveries to refresh reach this instance.",
		func() float64 { return one(s.refreshes.Outage() == nil) })
	s.admin.AddWarning("webhook_refreshes", s.refreshes.warning)
	return nil
}

// warning is an error while requests do not reach this instance, and policy is refreshed by
// polls alone.
func (r *webhookRefreshes) warning() error {
	if o := r.Outage(); o != nil {
		return fmt.Errorf("refreshes that webhook deliveries request are not known since %s, and the policy source is polled at its interval: %w", o.Since.UTC().Format("2006-01-02T15:04:05Z"), o.Err)
	}
	return nil
}

// watchWebhookRefreshes carries out requests until ctx ends.
func (s *server) watchWebhookRefreshes(ctx context.Context) {
	_ = s.refreshes.Watch(ctx, func(name string) {
		switch name {
		case webhookpg.PolicyRefresh:
			s.refreshes.policy.Add(1)
			s.policy.RequestRefresh()
		case webhookpg.NamesRefresh:
			s.authenticator.RefreshNames()
		}
	})
}

// policyRefreshes keeps the action refresh_policy of a decision only where the event may
// have moved the policy's branch: a rule of package sallyport.webhook need not know it.
type policyRefreshes struct {
	webhook.Decider
	affects func(*webhook.Event) bool // nil: policy does not come from Git
}

// DecideDelivery removes routes from the decision of the wrapped decider.
func (p policyRefreshes) DecideDelivery(ctx context.Context, d *webhook.Delivery) (webhook.Decision, error) {
	decision, err := p.Decider.DecideDelivery(ctx, d)
	if p.affects == nil || !p.affects(d.Event) {
		kept := make([]webhook.Route, 0, len(decision.Routes))
		for _, r := range decision.Routes {
			if r.Action != webhook.RefreshPolicy {
				kept = append(kept, r)
			}
		}
		decision.Routes = kept
	}
	return decision, err
}
