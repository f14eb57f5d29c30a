package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// choice is the value of a flag that takes one of a few words.
type choice struct {
	Value string
	known []string
}

func (c *choice) String() string { return c.Value }
func (c *choice) Type() string   { return strings.TrimPrefix(strings.Join(c.known, "|"), "|") }

// Set refuses a word that is not in the vocabulary. pflag names the flag.
func (c *choice) Set(given string) error {
	if err := OneOf("the value", given, c.known); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "the value "))
	}
	c.Value = given
	return nil
}

// AddChoiceFlag adds a flag that takes one of known; the first is the default.
func AddChoiceFlag(c *cobra.Command, name, usage string, known ...string) *choice {
	v := &choice{Value: known[0], known: known}
	c.Flags().Var(v, name, usage)
	Complete(c, name, known...)
	return v
}

// AddFormatFlag adds --format to a command that prints text, or JSON for programs.
func AddFormatFlag(c *cobra.Command) (asJSON func() bool) {
	v := AddChoiceFlag(c, "format", "print text, or JSON for programs", "text", "json")
	return func() bool { return v.Value == "json" }
}
