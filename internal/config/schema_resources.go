package config

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/webhook/resource"
)

func webhookResourceFields(r *WebhookResource) []field {
	return []field{
		scalar("name", &r.Name, webhookName, "The resource's name in policy, log and metrics; no endpoint has the same.", required),
		section("match", &r.Match, webhookMatchFields, "The deliveries that refresh the resource.", required),
		scalar("endpoint", &r.Endpoint, webhookName, "The name of an endpoint with a `url`, to which a delivery is posted."),
		optional("kubernetes", &r.Kubernetes, webhookKubernetesFields, "Objects of Kubernetes that an annotation refreshes."),
		scalar("timeout", &r.Timeout, between(duration, time.Second, 5*time.Minute), "The maximum time of one attempt in Kubernetes.", fallback("10s")),
		scalar("retry_for", &r.RetryFor, between(duration, time.Minute, 90*24*time.Hour), "How long a refresh is attempted before it becomes a dead letter.", fallback("24h")),
	}
}

func webhookMatchFields(m *WebhookMatch) []field {
	return []field{
		list("repositories", &m.Repositories, repositoryURL, 1, 100, "The repositories, by a URL to clone from: https, ssh or `git@host:path`. A push, and the merge of a pull request, refresh the resource; a push that only deletes does not."),
		list("branches", &m.Branches, refPattern, 1, 20, "The branches that must have changed. `*` matches within a segment, `**` across slashes. With neither `branches` nor `tags`, every branch and tag."),
		list("tags", &m.Tags, refPattern, 1, 20, "The tags that must have changed, in the form of `branches`."),
		list("pull_requests", &m.PullRequests, pullRequestPattern, 1, 20, "The URLs of pull requests whose merge or decline refreshes the resource, in the form of `branches`."),
	}
}

func webhookKubernetesFields(k *WebhookKubernetes) []field {
	return []field{
		scalar("server", &k.Server, kubernetesURL, "The URL of the API server. Redirects are not followed.", required),
		scalar("ca_file", &k.CAFile, existingFile, "The certificate authorities of the API server, in PEM, read at the start. Absent: the system's."),
		scalar("token_file", &k.Token, secretFile, "The token of a service account that may `patch` the resource, and `list` it where no `name` is given. The file is read for each refresh.", required),
		list[netip.Prefix]("allow_networks", &k.AllowNetworks, network, 1, 1000, "The private networks in which the API server's addresses may lie."),
		scalar("preset", &k.Preset, choice(resource.Presets()...), "A known resource, with its `api_version`, `resource` and `annotation`. `kargo_promotion` annotates only promotions that wait for a pull request, unless `name` is given."),
		scalar("api_version", &k.APIVersion, checked("text", "a group and version", resource.CheckAPIVersion), "The group and version of the resource."),
		scalar("resource", &k.Resource, checked("text", "a resource", resource.CheckResource), "The plural of the resource's kind, as in a rule of RBAC."),
		scalar("namespace", &k.Namespace, checked("text", "a namespace", resource.CheckNamespace), "The namespace of the objects.", required),
		scalar("name", &k.Object, checked("text", "a name of an object", resource.CheckName), "The name of the object."),
		scalar("label_selector", &k.Selector, checked("text", "a label selector", resource.CheckSelector), "The labels of the objects, in the form of `kubectl --selector`; at most 1,000 objects."),
		scalar("annotation", &k.Annotation, checked("text", "a key of an annotation", resource.CheckAnnotation), "The key of the annotation."),
		scalar("annotation_value", &k.AnnotationValue, annotationValue, "The value of the annotation. Absent: that of the preset, otherwise the time."),
	}
}
