package config

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

func webhooksFields(w *Webhooks) []field {
	return []field{
		section("listener", &w.Listener, webhookListenerFields, "The address at which Bitbucket delivers.", required),
		sections("receivers", &w.Receivers, webhookReceiverFields, "The receivers of deliveries; at least one.", required),
		sections("endpoints", &w.Endpoints, webhookEndpointFields, "The endpoints to which deliveries may be forwarded."),
		sections("resources", &w.Resources, webhookResourceFields, "The resources that deliveries may refresh, such as a `Warehouse` of Kargo."),
		scalar("body_max_age", &w.BodyMaxAge, between(duration, time.Hour, 90*24*time.Hour), "How long the bodies of deliveries are kept for a replay. While a delivery waits for an endpoint, its body is kept longer.", fallback("168h")),
	}
}

func webhookListenerFields(l *WebhookListener) []field {
	return []field{
		scalar("address", &l.Address, listenAddress, "IP address and port to listen on; without an IP address, all addresses of the machine.", required),
		scalar("plaintext", &l.Plaintext, boolean, "Allows a listener without TLS that is not on loopback. The listener then receives deliveries unencrypted.", fallback("false")),
		optional("tls", &l.TLS, tlsFields, "Enables TLS on the listener, with HTTP/2. The server reloads the files when they change."),
		list[netip.Prefix]("proxy_protocol_from", &l.ProxyProtocolFrom, network, 0, 1000,
			"Networks of load balancers whose connections begin with a PROXY protocol header, version 1 or 2. The header is required from these networks, and refused from all others."),
		scalar("max_connections", &l.MaxConnections, between(count, 10, 1_000_000), "The maximum number of open connections. Beyond it, the address with the most idle connections loses its oldest, or with none idle, the one with the most requests.", fallback("2000")),
		scalar("max_connections_per_client", &l.MaxPerClient, between(count, 1, 1_000_000), "The maximum number of open connections of one address (of IPv6, one /64); further connections are closed.", fallback("200")),
	}
}

func webhookReceiverFields(r *WebhookReceiver) []field {
	return []field{
		scalar("name", &r.Name, webhookName, "The receiver's name in policy, log and metrics.", required),
		scalar("path", &r.Path, webhookPath, "The path of the webhook's URL. A path with a random part is hard to find, but the secret is the protection.", required),
		scalar("kind", &r.Kind, webhookKind, "The product that delivers: `cloud` is bitbucket.org, `data_center` is Bitbucket Data Center or Server.", required),
		scalar("secret_file", &r.Secret, secretFile, "The webhook's secret. The file may change while the server runs.", required),
		scalar("previous_secret_file", &r.Previous, secretFile, "The secret that `secret_file` replaces. Deliveries that are signed with it are accepted too, unless it begins with `unused-`. `sallyport webhook rotate` needs the key, and writes the file."),
		list("repositories", &r.Repositories, webhookRepository, 1, 10000, "The repositories whose deliveries are accepted, by UUID or full name. A UUID remains valid when the repository is renamed. Data Center has no UUIDs. Absent: every repository."),
		list("events", &r.Events, webhookEvent, 1, 100, "The events that are accepted. Absent: every documented event."),
		scalar("max_body_bytes", &r.MaxBodyBytes, between(size, 1<<10, 64<<20), "The maximum size of a body. Bitbucket Cloud sends at most 256 KB.", fallback("2MiB")),
		list[netip.Prefix]("networks", &r.Networks, network, 1, 1000, "The networks from which deliveries are accepted. Absent: any."),
		scalar("networks_from", &r.NetworksFrom, networkList, "`atlassian`: deliveries are accepted from the networks that Atlassian publishes for outbound connections of Bitbucket. Sallyport fetches the list from `https://ip-ranges.atlassian.com/`."),
		scalar("networks_max_age", &r.NetworksMaxAge, between(duration, time.Hour, 90*24*time.Hour), "How long Atlassian's list is used if it cannot be fetched again; after that, every delivery is refused.", fallback("168h")),
		list[webhook.Action]("actions", &r.Actions, webhookAction, 1, 10, "The actions of a delivery if the policy has no package `sallyport.webhook`. Each happens only for events that can cause it. Without `actions`, `forward_to` and `refresh_resources`, a delivery is recorded only."),
		list("forward_to", &r.ForwardTo, webhookName, 1, 100, "The names of the endpoints to which a delivery is forwarded if the policy has no package `sallyport.webhook`."),
		list("refresh_resources", &r.RefreshResources, webhookName, 1, 100, "The names of the resources that a delivery may refresh if the policy has no package `sallyport.webhook`."),
		scalar("requests_per_second", &r.RequestsPerSecond, between(count, 1, 100_000), "The requests per second of one source address (of IPv6, one /64), before the signature is verified. Twice as many may arrive at once.", fallback("50")),
	}
}

func webhookEndpointFields(e *WebhookEndpoint) []field {
	return []field{
		scalar("name", &e.Name, webhookName, "The endpoint's name in policy, log and metrics.", required),
		scalar("url", &e.URL, webhookEndpointURL, "The URL to which deliveries are posted. It may have a query. Redirects are not followed."),
		scalar("agent", &e.Agent, boolean, "`true`: a `sallyport webhook agent` fetches the deliveries, and posts them to a local address.", fallback("false")),
		list[netip.Prefix]("allow_networks", &e.AllowNetworks, network, 1, 1000, "The private networks in which the endpoint's addresses may lie."),
		scalar("timeout", &e.Timeout, between(duration, time.Second, 5*time.Minute), "The maximum time of one attempt.", fallback("10s")),
		scalar("retry_for", &e.RetryFor, between(duration, time.Minute, 90*24*time.Hour), "How long a delivery is attempted before it becomes a dead letter.", fallback("24h")),
		optional("sign", &e.Sign, webhookSigningFields, "An additional signature with a secret of the endpoint."),
	}
}

func webhookSigningFields(s *WebhookSigning) []field {
	return []field{
		scalar("secret_file", &s.Secret, secretFile, "The endpoint's secret. The file may change while the server runs.", required),
		scalar("previous_secret_file", &s.Previous, secretFile, "The secret that `secret_file` replaces. Each delivery then has a signature with both, and the endpoint verifies one of them. Only with `standard_webhooks`."),
		scalar("form", &s.Form, choice(SignStandardWebhooks, SignHubSignature), "`standard_webhooks`: the fields `webhook-id`, `webhook-timestamp` and `webhook-signature`. `hub_signature`: `X-Hub-Signature`, which replaces Bitbucket's.", fallback(SignStandardWebhooks)),
	}
}
