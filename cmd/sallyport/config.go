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

// loadConfig finds and reads the configuration, and none of the files that it
// names: the command reads those that it needs. An empty path means the usual places.
func loadConfig(path string) (*config.Config, string, error) {
	return loadConfigWith(path, config.LoadUnread)
}

func loadConfigWith(path string, load func(string) (*config.Config, error)) (*config.Config, string, error) {
	path, err := findConfig(path)
	if err != nil {
		return nil, "", invalid{err}
	}
	cfg, err := load(path)
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
	parent.AddCommand(newConfigCheck())
	return parent
}

func newConfigCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration, and start nothing",
		Long: `Check a configuration as "serve" does before it starts anything: the file, the
files that it names, and the policy in policy.directory, which is loaded and
tested. It has to run as the server's user, with the server's environment.

With --online it also connects: to the database (login, privileges, schema), the
issuers and their keys, Bitbucket's API, the policy's Git server, the resolver and
upstream proxies. It changes nothing anywhere.`,
		Args: noArguments,
	}
	path := addConfigFlag(c)
	online := c.Flags().Bool("online", false, "connect to everything that the configuration names")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, name, err := loadConfigWith(*path, config.Load)
		if err != nil {
			return err
		}
		if err := validate(cfg); err != nil {
			return err
		}
		printWarnings(c.ErrOrStderr(), cfg)
		report := &checkReport{out: c.OutOrStdout()}
		if cfg.Policy.Git == nil || *online {
			checkPolicy(c.Context(), report, cfg)
		}
		if *online {
			checkOnline(c.Context(), report, cfg)
		}
		if report.failed > 0 {
			err := fmt.Errorf("%s: %d of %d checks failed", name, report.failed, report.made)
			if report.wrong {
				err = invalid{err}
			}
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: accepted\n", name)
		return err
	}
	return c
}

func printWarnings(w io.Writer, cfg *config.Config) {
	for _, warning := range cfg.Warnings() {
		fmt.Fprintf(w, "warning: %v\n", warning)
	}
}

// help is for commands that only hold others.
func help(c *cobra.Command, _ []string) error { return c.Help() }
