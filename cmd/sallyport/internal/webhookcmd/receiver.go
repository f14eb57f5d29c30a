package webhookcmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
)

// loadReceiver reads the configuration and returns the receiver with this name. The hint ends
// the error for the name of an endpoint.
func loadReceiver(path, name, hint string) (*config.Config, *config.WebhookReceiver, error) {
	cfg, file, err := cli.LoadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Webhooks == nil {
		return nil, nil, cli.Invalid(fmt.Errorf("%s has no section webhooks: make a receiver with `sallyport webhook add`", file))
	}
	var names []string
	for i, r := range cfg.Webhooks.Receivers {
		if r.Name == name {
			return cfg, &cfg.Webhooks.Receivers[i], nil
		}
		names = append(names, r.Name)
	}
	for _, e := range cfg.Webhooks.Endpoints {
		if e.Name == name {
			return nil, nil, cli.Invalid(fmt.Errorf("%q is an endpoint, and not a receiver: name one of %s%s", name, cli.JoinList(names), hint))
		}
	}
	return nil, nil, cli.Invalid(cli.OneOf("the receiver", name, names))
}

// loadEndpoint reads the configuration and returns the endpoint with this name.
func loadEndpoint(path, name string) (*config.WebhookEndpoint, error) {
	cfg, file, err := cli.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if cfg.Webhooks == nil || len(cfg.Webhooks.Endpoints) == 0 {
		return nil, cli.Invalid(fmt.Errorf("%s has no webhooks.endpoints", file))
	}
	var names []string
	for i, e := range cfg.Webhooks.Endpoints {
		if e.Name == name {
			return &cfg.Webhooks.Endpoints[i], nil
		}
		names = append(names, e.Name)
	}
	return nil, cli.Invalid(cli.OneOf("the endpoint", name, names))
}

// oneArgument accepts one argument that is not empty; what describes it in the error.
func oneArgument(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
			return cli.Invalid(fmt.Errorf("%s takes one argument, %s, and was given %d\nsee: %s --help", c.CommandPath(), what, len(args), c.CommandPath()))
		}
		return nil
	}
}
