package webhookcmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
)

// loadReceiver reads the configuration and returns the receiver with this name.
func loadReceiver(path, name string) (*config.Config, *config.WebhookReceiver, error) {
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

// oneName accepts the name of a receiver or an endpoint as the only argument.
func oneName(c *cobra.Command, args []string) error {
	if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
		return cli.Invalid(fmt.Errorf("name one receiver or endpoint\nsee: %s --help", c.CommandPath()))
	}
	return nil
}
