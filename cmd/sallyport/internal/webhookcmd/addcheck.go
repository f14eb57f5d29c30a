package webhookcmd

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/webhook"
)

// agentEndpoint stands for an endpoint that an agent serves (--endpoint NAME=agent).
const agentEndpoint = "agent"

// checkEndpoints reads the endpoints to add. Each of them receives the deliveries.
func (o *addOptions) checkEndpoints() error {
	for _, text := range o.endpoints {
		name, address, ok := strings.Cut(text, "=")
		if !ok || !receiverName.MatchString(name) {
			return fmt.Errorf("--endpoint %s is not NAME=URL or NAME=agent: a name has lower-case letters, digits, - and _", printable.Quote(text))
		}
		e := newEndpoint{name: name}
		if address != agentEndpoint {
			u, err := url.Parse(address)
			if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Fragment != "" || !printable.IsClean(address) || strings.ContainsAny(address, "\"\\ ") {
				return fmt.Errorf("--endpoint %s: write %s=https://HOST/PATH without user information and fragment, or %s=agent", printable.Quote(text), name, name)
			}
			e.url = address
		}
		if slices.ContainsFunc(o.newEndpoints, func(x newEndpoint) bool { return x.name == name }) {
			return fmt.Errorf("--endpoint %s: the name is given twice", name)
		}
		o.newEndpoints = append(o.newEndpoints, e)
		if !slices.Contains(o.forwardTo, name) {
			o.forwardTo = append(o.forwardTo, name)
		}
	}
	return nil
}

// checkNetworks checks the networks that deliveries may come from.
func (o *addOptions) checkNetworks() error {
	if o.networksFrom == "" && len(o.networks) == 0 {
		return nil
	}
	if o.networksFrom != "" {
		if err := cli.OneOf("--networks-from", o.networksFrom, []string{config.NetworksAtlassian}); err != nil {
			return err
		}
		if len(o.networks) > 0 {
			return errors.New("--networks-from and --network: keep one of the two")
		}
		if o.productKind() == webhook.DataCenter {
			return errors.New("--networks-from atlassian is for Bitbucket Cloud: name the addresses of your Data Center nodes with --network")
		}
	}
	for _, text := range o.networks {
		if n, err := netip.ParsePrefix(text); err != nil || n.Masked() != n {
			return fmt.Errorf("--network %s is not a network such as 192.0.2.0/24, whose other bits are zero", printable.Quote(text))
		}
	}
	return nil
}

// checkAction checks an action, and names the flag of an action that has its own.
func (o *addOptions) checkAction(action string) error {
	switch webhook.Action(action) {
	case webhook.Forward:
		return errors.New("--action forward: name the endpoint with --forward-to")
	case webhook.RefreshResource:
		return errors.New("--action refresh_resource: name the resource with --refresh-resource")
	}
	return cli.OneOf("--action", action, []string{string(webhook.RefreshPolicy), string(webhook.RefreshNames)})
}

func (o *addOptions) productKind() webhook.Kind {
	if o.kind == webhook.DataCenter.String() {
		return webhook.DataCenter
	}
	return webhook.Cloud
}

// checkEvents checks the events, and that each action has one that causes it.
func (o *addOptions) checkEvents() error {
	kind := o.productKind()
	if len(o.events) == 0 {
		for _, key := range webhook.Events(kind) {
			if o.wants(kind, key) {
				o.events = append(o.events, key)
			}
		}
	}
	for _, key := range o.events {
		if err := cli.OneOf("--event", key, webhook.Events(kind)); err != nil {
			return err
		}
		if !webhook.HasRepository(kind, key) {
			return fmt.Errorf("--event %s names no repository, and the receiver is for one: the delivery would be denied", key)
		}
	}
	causes := func(a webhook.Action) bool {
		return slices.ContainsFunc(o.events, func(key string) bool { return a.TriggeredBy(kind, key) })
	}
	for _, a := range o.actions {
		if !causes(webhook.Action(a)) {
			return fmt.Errorf("no event of --event causes --action %s", a)
		}
	}
	if len(o.resources) > 0 && !causes(webhook.RefreshResource) {
		return errors.New("no event of --event causes --refresh-resource: add repo:push, on Data Center repo:refs_changed")
	}
	return nil
}

// wants reports whether an event is one of the defaults: pushes and merges, the end of pull
// requests for resources, and changes of names.
func (o *addOptions) wants(kind webhook.Kind, key string) bool {
	acts := func(a webhook.Action) bool { return slices.Contains(o.actions, string(a)) && a.TriggeredBy(kind, key) }
	switch {
	case !webhook.HasRepository(kind, key) || strings.HasPrefix(key, "mirror:"):
		return false
	case len(o.forwardTo) > 0 && webhook.RefreshPolicy.TriggeredBy(kind, key):
		return true
	case len(o.resources) > 0 && webhook.RefreshResource.TriggeredBy(kind, key):
		return true
	}
	return acts(webhook.RefreshPolicy) || acts(webhook.RefreshNames)
}

// checkNames compares the names of endpoints and resources with the configuration. Without a
// section webhooks, whose content is not known yet, a note names what to add.
func (o *addOptions) checkNames(notes io.Writer, cfg *config.Config, file string) error {
	if cfg == nil {
		return nil
	}
	var endpoints, resources []string
	for _, e := range o.newEndpoints {
		endpoints = append(endpoints, e.name)
	}
	if cfg.Webhooks != nil {
		for _, e := range cfg.Webhooks.Endpoints {
			if slices.Contains(endpoints, e.Name) {
				return fmt.Errorf("--endpoint %s: %s has an endpoint of that name: use --forward-to %s, or another name", e.Name, file, e.Name)
			}
			endpoints = append(endpoints, e.Name)
		}
		for _, r := range cfg.Webhooks.Resources {
			resources = append(resources, r.Name)
		}
	}
	for _, list := range []struct {
		flag, section string
		given, known  []string
	}{{"--forward-to", "endpoints", o.forwardTo, endpoints}, {"--refresh-resource", "resources", o.resources, resources}} {
		for _, name := range list.given {
			err := cli.OneOf(list.flag, name, list.known)
			switch {
			case err == nil:
			case cli.Nearest(name, list.known) != "" || len(list.known) > 0:
				return err
			default:
				_, _ = fmt.Fprintf(notes, "note: %s has no webhooks.%s: add %s there before the restart (docs/webhook-endpoints.md).\n", file, list.section, name)
			}
		}
	}
	return nil
}
