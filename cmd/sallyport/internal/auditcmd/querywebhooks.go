package auditcmd

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/webhook"
)

// webhookFlags select events about webhook deliveries.
type webhookFlags struct {
	receivers, events, endpoints, deliveries *[]string
}

func addWebhookFlags(c *cobra.Command, from auditdb.Flags) webhookFlags {
	list := func(name, usage string) *[]string { return c.Flags().StringSlice(name, nil, usage) }
	f := webhookFlags{
		receivers:  list("receiver", "the `RECEIVER` of webhook deliveries"),
		events:     list("event", "Bitbucket's `KEY` of webhook deliveries, such as repo:push"),
		endpoints:  list("endpoint", "the endpoint or resource that webhook deliveries are routed to, by its `NAME`"),
		deliveries: list("delivery", "the webhook delivery's `ID`"),
	}
	cli.Complete(c, "event", eventKeys()...)
	complete := func(flag string, names func(*config.Webhooks) []string) {
		cli.CompleteBy(c, flag, func(context.Context, string) ([]string, error) {
			if from.Config == nil {
				return nil, nil
			}
			cfg, _, err := cli.LoadConfig(*from.Config)
			if err != nil || cfg.Webhooks == nil {
				return nil, err
			}
			return names(cfg.Webhooks), nil
		})
	}
	complete("receiver", func(w *config.Webhooks) (names []string) {
		for _, r := range w.Receivers {
			names = append(names, r.Name)
		}
		return names
	})
	complete("endpoint", func(w *config.Webhooks) (names []string) {
		for _, e := range w.Endpoints {
			names = append(names, e.Name)
		}
		for i := range w.Resources {
			names = append(names, w.Resources[i].Name)
		}
		return names
	})
	return f
}

// eventKeys are the documented event keys of both products, each once.
func eventKeys() []string {
	keys := slices.Concat(webhook.Events(webhook.Cloud), webhook.Events(webhook.DataCenter))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// configuredName is the form of the names of receivers, endpoints and resources.
var configuredName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// set checks the flags and adds them to a filter.
func (w webhookFlags) set(q *auditreader.Filter, f *filterFlags, problem func(error)) {
	q.Receivers, q.EventKeys, q.Endpoints = *w.receivers, *w.events, *w.endpoints
	q.Deliveries = f.uuids("--delivery", *w.deliveries, problem)
	for _, key := range q.EventKeys {
		problem(cli.OneOf("--event", key, eventKeys()))
	}
	for flag, names := range map[string][]string{"--receiver": q.Receivers, "--endpoint": q.Endpoints} {
		for _, name := range names {
			if !configuredName.MatchString(name) {
				problem(fmt.Errorf("%s %q is not a name of the configuration: lower-case letters, digits, - and _ are accepted", flag, name))
			}
		}
	}
}
