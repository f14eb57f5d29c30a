package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/resource"
)

var errTooLong = errors.New("shorten it")

// webhookResources checks the rules between the keys of resources, and with receivers,
// endpoints and workspaces.
func (d *decoder) webhookResources(w *Webhooks, endpoints, workspaces []string) {
	names := make([]string, len(w.Resources))
	for i := range w.Resources {
		r, path := &w.Resources[i], fmt.Sprintf("webhooks.resources[%d]", i)
		names[i] = r.Name
		if r.Name != "" && slices.Contains(endpoints, r.Name) {
			d.fail(path+".name", "choose another", "an endpoint has the same name")
		}
		d.webhookMatch(path+".match", &r.Match)
		d.webhookMatched(path+".match", &r.Match, workspaces)
		d.webhookTarget(path, r, w.Endpoints)
	}
	d.webhookUnique("resources", "name", names)
	for i, r := range w.Receivers {
		d.webhookRefreshed(fmt.Sprintf("webhooks.receivers[%d].refresh_resources", i), &r)
		for j, name := range r.RefreshResources {
			own := fmt.Sprintf("webhooks.receivers[%d].refresh_resources[%d]", i, j)
			if at := slices.Index(names, name); at >= 0 {
				d.webhookReaches(own, &r, &w.Resources[at])
				continue
			}
			hint := didYouMean(name, names)
			switch {
			case slices.Contains(endpoints, name):
				hint = "it is an endpoint: name it in forward_to"
			case hint == "":
				hint = "add a resource of this name under webhooks.resources"
			}
			d.fail(own, hint, "no resource has the name %s", quote(name))
		}
	}
}

// webhookRefreshed checks that an event of a receiver can refresh a resource.
func (d *decoder) webhookRefreshed(path string, r *WebhookReceiver) {
	events := strings.TrimSuffix(path, "refresh_resources") + "events"
	if r.Kind == 0 || !d.sound(path) || len(r.Events) == 0 || d.failed[events] {
		return
	}
	if !slices.ContainsFunc(r.Events, func(key string) bool { return webhook.RefreshResource.TriggeredBy(r.Kind, key) }) {
		d.fail(path, "add an event that changes a ref or ends a pull request", "no event of this receiver causes %s", webhook.RefreshResource)
	}
}

func (d *decoder) webhookMatch(path string, m *WebhookMatch) {
	repositories, pullRequests := d.has(path+".repositories"), d.has(path+".pull_requests")
	if d.has(path) && !repositories && !pullRequests {
		d.failAt(d.keys[path], path, "add repositories, or pull_requests", "no delivery can match")
	}
	for _, key := range []string{".branches", ".tags"} {
		if d.has(path+key) && !repositories && pullRequests {
			d.fail(path+key, "add repositories, or remove it", "it applies to repositories only")
		}
	}
}

// webhookTarget checks that a resource has one target, and that the target can be refreshed.
func (d *decoder) webhookTarget(path string, r *WebhookResource, endpoints []WebhookEndpoint) {
	hasEndpoint, k := d.has(path+".endpoint"), r.Kubernetes
	switch {
	case hasEndpoint && k != nil:
		d.fail(path+".kubernetes", "keep one of the two", "endpoint is given too")
	case !hasEndpoint && k == nil && !d.failed[path+".kubernetes"]:
		d.failAt(d.keys[path], path, "add endpoint:, or kubernetes:", "the resource has nothing to refresh")
	}
	if d.sound(path + ".endpoint") {
		at := slices.IndexFunc(endpoints, func(e WebhookEndpoint) bool { return e.Name == r.Endpoint })
		switch {
		case at < 0:
			d.fail(path+".endpoint", endpointHint(r.Endpoint, endpointNames(endpoints)), "no endpoint has the name %s", quote(r.Endpoint))
		case endpoints[at].Agent:
			d.fail(path+".endpoint", "name an endpoint with a url, or forward to the agent", "agents fetch forwarded deliveries only")
		}
		if d.has(path + ".timeout") {
			d.fail(path+".timeout", "remove it", "the timeout of the endpoint applies")
		}
	}
	if k != nil {
		d.webhookKubernetes(path+".kubernetes", k)
	}
}

func (d *decoder) webhookKubernetes(path string, k *WebhookKubernetes) {
	if !d.has(path + ".preset") {
		for _, key := range []string{"api_version", "resource", "annotation"} {
			if !d.has(path + "." + key) {
				d.failAt(d.keys[path], path+"."+key, "add it, or a preset", "the key is required without a preset, and missing")
			}
		}
	}
	name, selector := d.has(path+".name"), d.has(path+".label_selector")
	switch {
	case name && selector:
		d.fail(path+".label_selector", "keep one of the two", "name is given too")
	case !name && !selector && k.Preset != resource.KargoPromotion:
		d.failAt(d.keys[path], path, "add name, or label_selector", "it is not given which objects are annotated")
	}
	d.webhookAddress(path, ".server", k.Server, k.AllowNetworks)
	d.webhookExceptions(path, k.AllowNetworks)
	if !d.unread && d.sound(path+".ca_file") {
		if text, err := ReadRegular(k.CAFile, maxPEM); err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			d.fail(path+".ca_file", "write the certificates in PEM", "the file has no certificate")
		}
	}
}
