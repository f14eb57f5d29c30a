package server

import (
	"maps"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookserver"
	"github.com/sallyport/sallyport/webhook"
)

// watchWebhooks registers the details, warnings and metrics of the webhook gateway.
func (s *server) watchWebhooks() {
	g := s.webhooks
	if g == nil {
		return
	}
	s.admin.AddDetail("webhooks", g.Detail)
	s.admin.AddWarning("webhooks", g.Warning)
	m := s.metrics
	for _, receiver := range g.Receivers() {
		of := map[string]string{"receiver": receiver}
		with := func(label, value string) map[string]string {
			labels := maps.Clone(of)
			labels[label] = value
			return labels
		}
		for _, outcome := range webhookserver.Outcomes {
			m.CounterOf("sallyport_webhook_deliveries_total", "Verified deliveries, by receiver and outcome.", with("outcome", outcome), func() float64 { return float64(g.Deliveries(receiver, outcome)) })
		}
		for _, problem := range webhook.Problems {
			m.CounterOf("sallyport_webhook_unverified_total", "Requests to a receiver that are not verified deliveries, by reason.", with("reason", string(problem)), func() float64 { return float64(g.Unverified(receiver, problem)) })
		}
		m.GaugeOf("sallyport_webhook_secret_changed_timestamp_seconds", "When the file of a receiver's secret was last changed.", of, func() float64 { return unixSeconds(g.SecretChanged(receiver)) })
		m.GaugeOf("sallyport_webhook_secret_last_reload_successful", "1 if the present files of a receiver's secrets are in force, 0 if the last good secret is.", of, func() float64 { return one(g.SecretErr(receiver) == nil) })
		if g.UsesNetworks() {
			m.GaugeOf("sallyport_webhook_networks_expired", "1 while a receiver refuses every delivery because the list of Atlassian's networks is too old.", of, func() float64 { return one(g.NetworksExpired(receiver)) })
		}
	}
	if g.UsesNetworks() {
		m.Gauge("sallyport_webhook_networks_fetched_timestamp_seconds", "When the list of Atlassian's networks was last fetched; 0: never.", func() float64 { return unixSeconds(g.NetworksFetched()) })
	}
	m.Gauge("sallyport_webhook_connections", "Open connections of the webhook listener.", func() float64 { return float64(g.Stats().Connections) })
	m.Counter("sallyport_webhook_connections_refused_total", "Connections of the webhook listener that were closed because of a limit.", func() float64 { return float64(g.Stats().Refused) })
	m.Counter("sallyport_webhook_unknown_path_total", "Requests to the webhook listener for a path without a receiver.", func() float64 { return float64(g.Stats().UnknownPath) })
}
