package webhookcmd

import (
	"fmt"
	"io"
	"strings"
)

// receiver is what `webhook add` prints.
type receiver struct {
	Name, Kind, Path, Secret, Previous string
	Repository                         string
	Events, Actions                    []string
	ForwardTo, Resources, Networks     []string
	NetworksFrom                       string
	Endpoints                          []newEndpoint
	Listener                           bool   // the configuration has no webhook listener
	URL                                string // scheme and host of the listener, as Bitbucket sees it
}

// printSection prints the receiver as a section of the configuration.
func (r receiver) printSection(w io.Writer) error {
	var b strings.Builder
	b.WriteString("webhooks:\n")
	if r.Listener {
		b.WriteString("  listener:\n    address: \":8443\"\n    tls: {certificate_file: tls/certificate.pem, key_file: tls/key.pem}\n")
	}
	fmt.Fprintf(&b, "  receivers:\n    - name: %s\n      path: %s\n      kind: %s\n      secret_file: %q\n      previous_secret_file: %q\n      repositories: [%q]\n      events: %s\n",
		r.Name, r.Path, r.Kind, r.Secret, r.Previous, r.Repository, quoted(r.Events))
	if len(r.Actions) > 0 {
		fmt.Fprintf(&b, "      actions: [%s]\n", strings.Join(r.Actions, ", "))
	}
	if len(r.ForwardTo) > 0 {
		fmt.Fprintf(&b, "      forward_to: %s\n", quoted(r.ForwardTo))
	}
	if len(r.Resources) > 0 {
		fmt.Fprintf(&b, "      refresh_resources: %s\n", quoted(r.Resources))
	}
	if len(r.Networks) > 0 {
		fmt.Fprintf(&b, "      networks: %s\n", quoted(r.Networks))
	}
	if r.NetworksFrom != "" {
		fmt.Fprintf(&b, "      networks_from: %s\n", r.NetworksFrom)
	}
	if len(r.Endpoints) > 0 {
		b.WriteString("  endpoints:\n")
	}
	for _, e := range r.Endpoints {
		if e.url == "" {
			fmt.Fprintf(&b, "    - {name: %s, agent: true}\n", e.name)
		} else {
			fmt.Fprintf(&b, "    - {name: %s, url: %q}\n", e.name, e.url)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printFields prints what to enter in Bitbucket.
func (r receiver) printFields(w io.Writer) {
	place := "Repository settings > Webhooks > Add webhook"
	fields := "Status    active\n  SSL       verify certificates\n"
	if r.Kind == "data_center" {
		place, fields = "Repository settings > Webhooks > Create webhook", "Status    active\n"
	}
	names := make([]string, len(r.Events))
	for i, event := range r.Events {
		names[i] = label(event)
	}
	fmt.Fprintf(w, `Enter this in Bitbucket, in %s, %s:

  Title     Sallyport receiver %s
  URL       %s
  Secret    the line in %s (do not let Bitbucket generate one)
  %s  Events    %s

%s

`, r.Repository, place, r.Name, r.URL+r.Path, r.Secret, fields, strings.Join(names, ", "), r.nextStep())
}

// nextStep names what to do with the printed section.
func (r receiver) nextStep() string {
	if r.Listener {
		return "Add this section to the configuration, and restart the server:"
	}
	return "The configuration has a section webhooks: add each element below to its list there, without the keys\nwebhooks, receivers and endpoints themselves, and restart the server:"
}

// eventLabels are the names of the usual events on Bitbucket's page, by key.
var eventLabels = map[string]string{
	"repo:push": "Repository > Push", "repo:updated": "Repository > Updated", "repo:transfer": "Repository > Transfer",
	"pullrequest:fulfilled": "Pull request > Merged", "pullrequest:rejected": "Pull request > Declined",
	"repo:refs_changed": "Repository > Push", "pr:merged": "Pull request > Merged", "pr:declined": "Pull request > Declined",
}

// label is an event with its name on Bitbucket's page, if that is known.
func label(event string) string {
	if name := eventLabels[event]; name != "" {
		return fmt.Sprintf("%s (%s)", name, event)
	}
	return event
}

func quoted(list []string) string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(all, ", ") + "]"
}
