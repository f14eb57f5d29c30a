package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// choice is the value of a flag that takes one of a few words.
type choice struct {
	value string
	known []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.TrimPrefix(strings.Join(c.known, "|"), "|") }

// Set refuses a word that is not in the vocabulary. pflag names the flag.
func (c *choice) Set(given string) error {
	if err := oneOf("the value", given, c.known); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "the value "))
	}
	c.value = given
	return nil
}

// addChoice adds a flag that takes one of known; the first is the default.
func addChoice(c *cobra.Command, name, usage string, known ...string) *choice {
	v := &choice{value: known[0], known: known}
	c.Flags().Var(v, name, usage)
	return v
}

// addFormatFlag adds --format to a command that prints text, or JSON for programs.
func addFormatFlag(c *cobra.Command) (asJSON func() bool) {
	v := addChoice(c, "format", "print text, or JSON for programs", "text", "json")
	return func() bool { return v.value == "json" }
}
