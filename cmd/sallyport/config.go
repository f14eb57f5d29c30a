package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/config"
)

// configVariable names the configuration where no flag does.
const configVariable = "SALLYPORT_CONFIG"

// configPlaces are where the configuration is looked for at last.
var configPlaces = []string{"sallyport.yaml", "/etc/sallyport/sallyport.yaml"}

func addConfigFlag(c *cobra.Command) *string {
	return c.Flags().StringP("config", "c", "", "configuration `FILE` (default: $"+configVariable+", ./sallyport.yaml, /etc/sallyport/sallyport.yaml)")
}

// loadConfig finds and reads the configuration; an empty path means the usual places.
func loadConfig(path string) (*config.Config, string, error) {
	path, err := findConfig(path)
	if err != nil {
		return nil, "", invalid{err}
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, path, invalid{fmt.Errorf("the configuration is not accepted, nothing was started\n%w", err)}
	}
	return cfg, path, nil
}

func findConfig(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if path = os.Getenv(configVariable); path != "" {
		return path, nil
	}
	for _, p := range configPlaces {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no configuration: name one with -c FILE or $%s; %s and %s are not there", configVariable, configPlaces[0], configPlaces[1])
}

func newConfig() *cobra.Command {
	parent := &cobra.Command{Use: "config", Short: "Work with the configuration", Args: noArguments, RunE: help}
	check := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a configuration, and start nothing",
		Args:  noArguments,
	}
	path := addConfigFlag(check)
	check.RunE = func(c *cobra.Command, _ []string) error {
		cfg, name, err := loadConfig(*path)
		if err != nil {
			return err
		}
		printWarnings(c.ErrOrStderr(), cfg)
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: accepted\n", name)
		return err
	}
	parent.AddCommand(check)
	return parent
}

func printWarnings(w io.Writer, cfg *config.Config) {
	for _, warning := range cfg.Warnings() {
		fmt.Fprintf(w, "warning: %v\n", warning)
	}
}

// help is for commands that only hold others.
func help(c *cobra.Command, _ []string) error { return c.Help() }
