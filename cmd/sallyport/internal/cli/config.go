package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/config"
)

// ConfigVariable names the configuration where no flag does.
const ConfigVariable = "SALLYPORT_CONFIG"

// configPlaces are where the configuration is looked for at last.
var configPlaces = []string{"sallyport.yaml", "/etc/sallyport/sallyport.yaml"}

// AddConfigFlag adds --config, which names the configuration.
func AddConfigFlag(c *cobra.Command) *string {
	return c.Flags().StringP("config", "c", "", "configuration `FILE` (default: $"+ConfigVariable+", ./sallyport.yaml, /etc/sallyport/sallyport.yaml)")
}

// LoadConfig finds and reads the configuration, and none of the files that it
// names: the command reads those that it needs. An empty path means the usual places.
func LoadConfig(path string) (*config.Config, string, error) {
	return LoadConfigWith(path, config.LoadUnread)
}

// LoadConfigWith is LoadConfig with another reader. Its errors are [Invalid].
func LoadConfigWith(path string, load func(string) (*config.Config, error)) (*config.Config, string, error) {
	path, err := FindConfig(path)
	if err != nil {
		return nil, "", Invalid(err)
	}
	cfg, err := load(path)
	if err != nil {
		return nil, path, Invalid(fmt.Errorf("the configuration is not accepted, nothing was started\n%w", err))
	}
	return cfg, path, nil
}

// FindConfig returns the path of the configuration: the given one, that of the
// environment, or the first of the usual places that exists.
func FindConfig(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if path = os.Getenv(ConfigVariable); path != "" {
		return path, nil
	}
	for _, p := range configPlaces {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no configuration: name one with --config FILE or $%s; %s and %s are not there", ConfigVariable, configPlaces[0], configPlaces[1])
}

// Help is for commands that only hold others.
func Help(c *cobra.Command, _ []string) error { return c.Help() }

// NoArguments rejects arguments, for commands that have none. An argument of a
// command with subcommands is a misspelled one: the error suggests the nearest.
func NoArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !c.HasSubCommands() {
		hint := "leave it out"
		if c.Flags().Lookup("config") != nil {
			hint = "leave it out; a configuration is named with -c FILE"
		}
		return Invalid(fmt.Errorf("%s takes no argument, and was given %q: %s\nsee: %[1]s --help", c.CommandPath(), args[0], hint))
	}
	err := cobra.NoArgs(c, args)
	if near := nearestCommand(c, args[0]); near != "" {
		err = fmt.Errorf("%w: did you mean %q?", err, near)
	}
	return Invalid(fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath()))
}
