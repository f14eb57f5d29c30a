package config

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// Webhooks configures the receiving and forwarding of Bitbucket's webhook deliveries.
type Webhooks struct {
	Listener WebhookListener
	// Receivers has at least one element; no two share a name or a path.
	Receivers []WebhookReceiver
	// Endpoints are where deliveries may be forwarded to; no two share a name.
	Endpoints []WebhookEndpoint
	// Resources are what deliveries may refresh; no two share a name, and none has that of
	// an endpoint.
	Resources []WebhookResource
	// BodyMaxAge is how long bodies of deliveries are kept after they were received.
	BodyMaxAge time.Duration
}

// WebhookListener is the address at which Bitbucket reaches the receivers.
type WebhookListener struct {
	Listener
	// MaxConnections is how many clients may be connected at once, MaxPerClient how many
	// connections one address may have (of IPv6, one /64).
	MaxConnections, MaxPerClient int
}

// WebhookReceiver accepts the deliveries of one path.
type WebhookReceiver struct {
	Name string
	// Path is clean and absolute, without a slash at its end.
	Path string
	Kind webhook.Kind
	// Secret is the current secret. Previous is the one that it replaces, or the zero
	// Secret. Both may be rotated while the server runs, so read them when they are used.
	Secret, Previous Secret
	// Repositories are canonical UUIDs and full names; empty: every repository.
	Repositories []string
	// Events are event keys of Kind; empty: every documented one.
	Events       []string
	MaxBodyBytes int
	// Networks are those that deliveries may come from, all masked. Empty: any, unless
	// NetworksFrom is [NetworksAtlassian].
	Networks     []netip.Prefix
	NetworksFrom string
	// NetworksMaxAge is how long Atlassian's list is used if it cannot be fetched again.
	NetworksMaxAge time.Duration
	// Actions are the actions without an endpoint, ForwardTo the names of endpoints, and
	// RefreshResources those of resources. They apply where the policy has no package sallyport.webhook.
	Actions                     []webhook.Action
	ForwardTo, RefreshResources []string
	// RequestsPerSecond is for each source address (of IPv6, each /64).
	RequestsPerSecond int
}

// Routes returns the receiver's actions, in the order of the configuration.
func (r *WebhookReceiver) Routes() []webhook.Route {
	var routes []webhook.Route
	for _, action := range r.Actions {
		routes = append(routes, webhook.Route{Action: action})
	}
	for _, endpoint := range r.ForwardTo {
		routes = append(routes, webhook.Route{Action: webhook.Forward, Endpoint: endpoint})
	}
	for _, name := range r.RefreshResources {
		routes = append(routes, webhook.Route{Action: webhook.RefreshResource, Endpoint: name})
	}
	return routes
}

// Routes returns the actions of each receiver by its name; nil without webhooks.
func (w *Webhooks) Routes() map[string][]webhook.Route {
	if w == nil {
		return nil
	}
	routes := map[string][]webhook.Route{}
	for i := range w.Receivers {
		routes[w.Receivers[i].Name] = w.Receivers[i].Routes()
	}
	return routes
}

// NetworksAtlassian stands for the networks from which Atlassian sends webhooks
// (`webhooks.receivers[].networks_from`).
const NetworksAtlassian = "atlassian"

// WebhookEndpoint is where deliveries are forwarded to. Exactly one of URL and Agent is set.
type WebhookEndpoint struct {
	Name string
	URL  *url.URL
	// Agent is true where an agent fetches the deliveries.
	Agent bool
	// AllowNetworks are exceptions to the ranges that are always refused; all are masked.
	AllowNetworks []netip.Prefix
	// Timeout bounds one attempt, RetryFor all attempts of one delivery.
	Timeout, RetryFor time.Duration
	// Sign is nil where deliveries keep only Bitbucket's signature.
	Sign *WebhookSigning
}

// WebhookSigning signs the deliveries to one endpoint with a secret of that endpoint.
type WebhookSigning struct {
	// Secret is the current secret. Previous is the one that it replaces, or the zero
	// Secret; only with [SignStandardWebhooks].
	Secret, Previous Secret
	// Form is [SignStandardWebhooks] or [SignHubSignature].
	Form string
}

// The forms of an endpoint's signature (`webhooks.endpoints[].sign.form`).
const (
	SignStandardWebhooks = "standard_webhooks" // webhook-id, webhook-timestamp, webhook-signature
	SignHubSignature     = "hub_signature"     // X-Hub-Signature, as Bitbucket's
)
