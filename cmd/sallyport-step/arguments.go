package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/internal/nearest"
)

// noArguments refuses arguments, and suggests the nearest command for a misspelled one.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if near := nearest.Of(args[0], names); near != "" {
		return invalid(fmt.Errorf("%s %q: the command is not known: did you mean %s?", c.CommandPath(), args[0], near))
	}
	if f := c.Flags().Lookup("listen-docker"); f != nil && f.Value.String() == dockerAuto {
		return invalid(fmt.Errorf("%s %q: unexpected argument: an address of --listen-docker follows an equals sign: write --listen-docker=%s", c.CommandPath(), args[0], args[0]))
	}
	return invalid(fmt.Errorf("%s %q: unexpected argument\nsee: %s --help", c.CommandPath(), args[0], c.CommandPath()))
}

// suggestFlag returns a hint with the known flag that is most similar to an unknown flag,
// or an empty string.
func suggestFlag(c *cobra.Command, err error) string {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 {
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest.Of(unknown.GetSpecifiedName(), names); near != "" {
		return ": did you mean --" + near + "?"
	}
	return ""
}
