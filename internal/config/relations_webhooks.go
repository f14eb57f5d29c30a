package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// webhooks checks the rules between the keys of receivers and endpoints.
func (d *decoder) webhooks(cfg *Config) {
	w := cfg.Webhooks
	if w == nil {
		return
	}
	d.webhookListener(w.Listener)
	endpoints := endpointNames(w.Endpoints)
	for i, e := range w.Endpoints {
		d.webhookEndpoint(fmt.Sprintf("webhooks.endpoints[%d]", i), e)
	}
	d.webhookUnique("endpoints", "name", endpoints)
	d.webhookResources(w, endpoints, workspacesOf(cfg))
	names, paths := make([]string, len(w.Receivers)), make([]string, len(w.Receivers))
	var secrets []string
	for i, r := range w.Receivers {
		names[i], paths[i] = r.Name, r.Path
		path := fmt.Sprintf("webhooks.receivers[%d]", i)
		d.webhookSources(path, r)
		d.webhookEvents(path, r)
		d.webhookRepositories(path, r, cfg)
		d.webhookActions(path, r, cfg)
		d.webhookForwards(path, r, w)
		secrets = append(secrets, d.webhookSecrets(path, r))
	}
	d.webhookOwnSecrets(secrets)
	for i, e := range w.Endpoints {
		if e.Sign != nil {
			d.webhookSigning(fmt.Sprintf("webhooks.endpoints[%d].sign", i), e.Sign, secrets)
		}
	}
	d.webhookUnique("receivers", "name", names)
	d.webhookUnique("receivers", "path", paths)
}

func (d *decoder) webhookListener(l WebhookListener) {
	const path = "webhooks.listener"
	d.listener(path, l.Listener, "deliveries")
	if d.sound(path+".max_connections_per_client") && l.MaxPerClient > l.MaxConnections {
		d.fail(path+".max_connections_per_client", "lower it, or raise max_connections", "it is above max_connections (%d), and so never reached", l.MaxConnections)
	} else if d.sound(path+".max_connections_per_client") && l.MaxPerClient == l.MaxConnections {
		d.warn(path+".max_connections_per_client", "lower it, unless all deliveries come through one load balancer", "one address can have all %d connections", l.MaxConnections)
	}
}

// webhookUnique reports an element that has the value of an earlier one.
func (d *decoder) webhookUnique(list, key string, values []string) {
	for i, value := range values {
		if first := slices.Index(values, value); value != "" && first < i {
			d.fail(fmt.Sprintf("webhooks.%s[%d].%s", list, i, key), "choose another", "it is the same as webhooks.%s[%d].%s", list, first, key)
		}
	}
}

// webhookSources checks the networks of a receiver.
func (d *decoder) webhookSources(path string, r WebhookReceiver) {
	from := d.has(path + ".networks_from")
	if d.sound(path+".networks_from") && d.has(path+".networks") {
		d.fail(path+".networks_from", "keep one of the two", "networks is given too")
	}
	if from && r.Kind == webhook.DataCenter {
		d.fail(path+".networks_from", "write the addresses of your Data Center nodes into networks", "Atlassian's networks do not send the deliveries of a Data Center")
	}
	if d.has(path+".networks_max_age") && !from {
		d.fail(path+".networks_max_age", "add networks_from: atlassian, or remove it", "no list is fetched for this receiver")
	}
	for i, network := range r.Networks {
		if network.Bits() == 0 {
			d.warn(fmt.Sprintf("%s.networks[%d]", path, i), "remove networks, or name the networks that are meant", "it contains every address")
		}
	}
}

// webhookEvents checks that each event is one of the product, and can pass the list of
// repositories.
func (d *decoder) webhookEvents(path string, r WebhookReceiver) {
	if r.Kind == 0 || d.failed[path+".events"] {
		return
	}
	for i, key := range r.Events {
		own := fmt.Sprintf("%s.events[%d]", path, i)
		switch {
		case !webhook.IsEvent(r.Kind, key):
			d.fail(own, otherKindHint(key, r.Kind), "%s is not an event of kind %s", quote(key), r.Kind)
			d.failed[path+".events"] = true
		case len(r.Repositories) > 0 && !webhook.HasRepository(r.Kind, key):
			d.fail(own, "use a receiver of its own without repositories", "%s has no repository, and this receiver lists repositories: it would be denied", key)
		}
	}
}

// otherKindHint names the event that was meant, or the kind that has the given one.
func otherKindHint(key string, kind webhook.Kind) string {
	other := webhook.Cloud
	if kind == webhook.Cloud {
		other = webhook.DataCenter
	}
	if near := didYouMean(key, webhook.Events(kind)); near != "" {
		return near
	}
	if webhook.IsEvent(other, key) {
		return fmt.Sprintf("it is an event of kind %s: correct kind, or the event", other)
	}
	return "see Bitbucket's event payloads"
}

// webhookActions checks that each action can happen.
func (d *decoder) webhookActions(path string, r WebhookReceiver, cfg *Config) {
	if r.Kind == 0 || d.failed[path+".events"] || d.failed[path+".actions"] {
		return
	}
	events := r.Events
	if len(events) == 0 {
		events = webhook.Events(r.Kind)
	}
	for i, action := range r.Actions {
		own := fmt.Sprintf("%s.actions[%d]", path, i)
		if !slices.ContainsFunc(events, func(key string) bool { return action.TriggeredBy(r.Kind, key) }) {
			caused := slices.DeleteFunc(webhook.Events(r.Kind), func(key string) bool { return !action.TriggeredBy(r.Kind, key) })
			hint := "remove it"
			if len(caused) > 0 {
				hint = "add one of the events that cause it: " + strings.Join(caused, ", ")
			}
			d.fail(own, hint, "no event of this receiver causes %s", action)
			continue
		}
		switch action {
		case webhook.RefreshPolicy:
			d.webhookRefreshesPolicy(own, r, cfg)
		case webhook.RefreshNames:
			if !slices.ContainsFunc(cfg.Identity.Bitbucket, func(b Bitbucket) bool { return b.API != nil }) {
				d.fail(own, "remove it, or add api to a workspace", "no workspace under identity.bitbucket has an api to fetch names from")
			}
		}
	}
}

// webhookRefreshesPolicy checks refresh_policy: policy comes from a repository, and the
// receiver accepts its deliveries.
func (d *decoder) webhookRefreshesPolicy(own string, r WebhookReceiver, cfg *Config) {
	if cfg.Policy.Git == nil {
		if !d.failed["policy"] && !d.failed["policy.git"] {
			d.fail(own, "remove it, or let policy come from policy.git", "a policy directory receives no pushes")
		}
		return
	}
	full := policyRepository(&cfg.Policy, r.Kind)
	if full == "" || len(r.Repositories) == 0 {
		return
	}
	for _, listed := range r.Repositories {
		if !strings.Contains(listed, "/") || strings.EqualFold(listed, full) {
			return
		}
	}
	d.warn(own, "add it to repositories", "the receiver does not list the policy repository %s", quote(full))
}

func (d *decoder) webhookForwards(path string, r WebhookReceiver, w *Webhooks) {
	endpoints := endpointNames(w.Endpoints)
	for i, name := range r.ForwardTo {
		if slices.Contains(endpoints, name) {
			continue
		}
		hint := endpointHint(name, endpoints)
		if slices.ContainsFunc(w.Resources, func(r WebhookResource) bool { return r.Name == name }) {
			hint = "it is a resource: name it in refresh_resources"
		}
		d.fail(fmt.Sprintf("%s.forward_to[%d]", path, i), hint, "no endpoint has the name %s", quote(name))
	}
}

func endpointNames(endpoints []WebhookEndpoint) []string {
	names := make([]string, len(endpoints))
	for i, e := range endpoints {
		names[i] = e.Name
	}
	return names
}

// endpointHint is the remedy for a name that no endpoint has.
func endpointHint(name string, endpoints []string) string {
	if near := didYouMean(name, endpoints); near != "" {
		return near
	}
	return "add an endpoint of this name under webhooks.endpoints"
}

// webhookSecrets reads the secrets of a receiver, as the server will, and returns the current
// one; empty: it cannot be used.
func (d *decoder) webhookSecrets(path string, r WebhookReceiver) (secret string) {
	if d.unread {
		return ""
	}
	read := func(key string, s Secret, parse func(string) (webhook.Secret, error)) string {
		if !d.sound(path + key) {
			return ""
		}
		text, err := s.Read()
		var parsed webhook.Secret
		if err == nil {
			parsed, err = parse(text)
		}
		if err != nil {
			d.fail(path+key, "choose another secret of at most 128 bytes", "the secret cannot be used: %v", err)
			return ""
		}
		if parsed == (webhook.Secret{}) { // a previous secret that is not in use
			return ""
		}
		if len(text) < 16 {
			d.warn(path+key, "generate one: openssl rand -hex 32", "the secret has only %d bytes, and can be guessed", len(text))
		}
		return text
	}
	secret = read(".secret_file", r.Secret, webhook.NewSecret)
	if previous := read(".previous_secret_file", r.Previous, webhook.NewPreviousSecret); secret != "" && secret == previous {
		d.warn(path+".previous_secret_file", "remove it", "it has the same secret as secret_file")
	}
	return secret
}

// webhookOwnSecrets reports a receiver that has the secret of an earlier one: a delivery for
// one of them verifies at the other too.
func (d *decoder) webhookOwnSecrets(secrets []string) {
	for i, secret := range secrets {
		if first := slices.Index(secrets, secret); secret != "" && first < i {
			d.warn(fmt.Sprintf("webhooks.receivers[%d].secret_file", i), "generate one for each receiver: openssl rand -hex 32",
				"it has the same secret as webhooks.receivers[%d]: a delivery to one of them is valid at the other", first)
		}
	}
}

// webhookEndpoint checks which keys belong together in an endpoint.
func (d *decoder) webhookEndpoint(path string, e WebhookEndpoint) {
	switch hasURL := d.has(path + ".url"); {
	case hasURL && e.Agent:
		d.fail(path+".agent", "keep one of the two: an agent has its local address in its own configuration", "url is given too")
	case !hasURL && !e.Agent && !d.failed[path+".agent"]:
		d.failAt(d.keys[path], path, "add url:, or agent: true", "the endpoint has neither a url nor an agent")
	}
	if e.Agent && d.has(path+".allow_networks") {
		d.fail(path+".allow_networks", "remove it", "Sallyport opens no connection to an agent's endpoint")
	}
	d.webhookExceptions(path, e.AllowNetworks)
	d.webhookAddress(path, ".url", e.URL, e.AllowNetworks)
}

// specialNetworks are the IPv4 networks that endpoints are not reached in without an exception
// (IANA IPv4 Special-Purpose Address Registry).
var specialNetworks = func() (list []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
		"192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

// webhookExceptions warns of exceptions for every address, and of those without an effect.
func (d *decoder) webhookExceptions(path string, networks []netip.Prefix) {
	for i, network := range networks {
		own := fmt.Sprintf("%s.allow_networks[%d]", path, i)
		switch {
		case network.Bits() == 0:
			d.warn(own, "name the networks that are meant", "it contains every address, loopback and metadata services included")
		case network.Addr().Is4() && !network.IsSingleIP() && !slices.ContainsFunc(specialNetworks, network.Overlaps):
			d.warn(own, "correct it, or remove it", "the network %s is public, and needs no exception", network)
		}
	}
}

// webhookAddress warns of an address in a URL that no connection is made to.
func (d *decoder) webhookAddress(path, key string, u *url.URL, allowed []netip.Prefix) {
	if u == nil || !d.sound(path+key) || d.failed[path+".allow_networks"] {
		return
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
		return
	}
	if slices.ContainsFunc(allowed, func(n netip.Prefix) bool { return n.Contains(ip) }) {
		return
	}
	d.warn(path+key, fmt.Sprintf("add it: allow_networks: [%q]", netip.PrefixFrom(ip, ip.BitLen())),
		"allow_networks does not contain the private address %s: no delivery is sent to it", ip)
}

// webhookSigning checks the secrets with which deliveries are signed again. receivers are the
// secrets of Bitbucket's webhooks.
func (d *decoder) webhookSigning(path string, s *WebhookSigning, receivers []string) {
	if d.has(path+".previous_secret_file") && d.sound(path+".form") && s.Form == SignHubSignature {
		d.fail(path+".previous_secret_file", "use form: standard_webhooks, or change the secret at the endpoint first", "X-Hub-Signature has one signature")
	}
	if d.unread || !d.sound(path+".secret_file") {
		return
	}
	text, err := s.Secret.Read()
	if err != nil || d.failed[path+".form"] || d.unusableSigner(path+".secret_file", s, nil) {
		return
	}
	if len(text) < 16 {
		d.warn(path+".secret_file", "generate one: openssl rand -hex 32", "the secret has only %d bytes, and can be guessed", len(text))
	}
	if slices.Contains(receivers, text) {
		d.warn(path+".secret_file", "generate one for the endpoint: openssl rand -hex 32", "it is the secret of a receiver: the endpoint could sign deliveries to Sallyport with it")
	}
	if !d.sound(path + ".previous_secret_file") {
		return
	}
	if previous, err := s.Previous.Read(); err == nil && previous == text {
		d.warn(path+".previous_secret_file", "remove it", "it has the same secret as secret_file")
		return
	}
	d.unusableSigner(path+".previous_secret_file", s, s.Previous.Read)
}

// unusableSigner reports whether deliveries cannot be signed with the secrets of an endpoint.
func (d *decoder) unusableSigner(path string, s *WebhookSigning, previous func() (string, error)) bool {
	_, err := dispatch.NewSigner(dispatch.Form(s.Form), s.Secret.Read, previous)
	if err != nil {
		d.fail(path, "", "the secret cannot be used: %s", strings.TrimPrefix(err.Error(), "sign: "))
	}
	return err != nil
}
