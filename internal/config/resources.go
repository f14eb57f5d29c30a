package config

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/sallyport/sallyport/webhook/resource"
)

// WebhookResource is refreshed by the action refresh_resource. Exactly one of Endpoint and
// Kubernetes is set.
type WebhookResource struct {
	Name  string
	Match WebhookMatch
	// Endpoint is the name of an endpoint with a URL, to which the delivery is posted.
	Endpoint   string
	Kubernetes *WebhookKubernetes
	// Timeout bounds one attempt, RetryFor all attempts of one delivery.
	Timeout, RetryFor time.Duration
}

// WebhookMatch is the condition under which a delivery refreshes a resource.
type WebhookMatch struct {
	// Repositories are normalized addresses: see [webhook.NormalizeURL].
	Repositories []string
	// Branches, Tags and PullRequests are patterns: see package resource.
	Branches, Tags, PullRequests []string
}

// Compile returns the condition. The patterns were checked when they were read.
func (m *WebhookMatch) Compile() resource.Match {
	compiled := resource.Match{Repositories: m.Repositories}
	for _, list := range []struct {
		texts []string
		parse func(string) (resource.Pattern, error)
		into  *[]resource.Pattern
	}{
		{m.Branches, resource.ParsePattern, &compiled.Branches},
		{m.Tags, resource.ParsePattern, &compiled.Tags},
		{m.PullRequests, resource.ParsePullRequestPattern, &compiled.PullRequests},
	} {
		for _, text := range list.texts {
			pattern, _ := list.parse(text) // the zero pattern matches nothing
			*list.into = append(*list.into, pattern)
		}
	}
	return compiled
}

// WebhookKubernetes is where and how objects are annotated.
type WebhookKubernetes struct {
	Server *url.URL
	// CAFile is empty where the system's authorities apply.
	CAFile string
	// Token may be rotated while the server runs, so read it when it is used.
	Token Secret
	// AllowNetworks are exceptions to the ranges that are always refused; all are masked.
	AllowNetworks []netip.Prefix
	// Preset is a name of [resource.Presets], or empty; the others override it.
	Preset, APIVersion, Resource string
	Namespace, Object, Selector  string
	Annotation, AnnotationValue  string
}

// Target returns the objects and their annotation, the preset included.
func (k *WebhookKubernetes) Target() resource.Object {
	o, _ := resource.Preset(k.Preset)
	o.Namespace, o.Name, o.Selector = k.Namespace, k.Object, k.Selector
	for _, given := range []struct {
		text string
		into *string
	}{{k.APIVersion, &o.APIVersion}, {k.Resource, &o.Resource}, {k.Annotation, &o.Annotation}, {k.AnnotationValue, &o.Value}} {
		if given.text != "" {
			*given.into = given.text
		}
	}
	return o
}
