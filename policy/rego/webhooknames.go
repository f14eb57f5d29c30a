package rego

// WebhookNames are names in the configuration of webhooks.
type WebhookNames struct {
	Receivers []string `json:"receivers"`
	Endpoints []string `json:"endpoints"` // of the action forward
	Resources []string `json:"resources"` // of the action refresh_resource
}
