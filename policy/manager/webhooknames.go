package manager

import (
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/rego"
)

// WebhookNames are the configured names that rules about deliveries may name; nil if the
// configuration has no webhooks: such an instance decides about no delivery.
func WebhookNames(cfg *config.Config) *rego.WebhookNames {
	if cfg.Webhooks == nil {
		return nil
	}
	names := &rego.WebhookNames{Receivers: []string{}, Endpoints: []string{}, Resources: []string{}}
	for _, r := range cfg.Webhooks.Receivers {
		names.Receivers = append(names.Receivers, r.Name)
	}
	for _, e := range cfg.Webhooks.Endpoints {
		names.Endpoints = append(names.Endpoints, e.Name)
	}
	for i := range cfg.Webhooks.Resources {
		names.Resources = append(names.Resources, cfg.Webhooks.Resources[i].Name)
	}
	return names
}
