package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// Complete makes words the completions of a flag.
func Complete(c *cobra.Command, flag string, values ...string) {
	CompleteBy(c, flag, func(context.Context, string) ([]string, error) { return values, nil })
}

// CompleteBy completes a flag by a function of what was typed. An error offers none.
func CompleteBy(c *cobra.Command, flag string, find func(ctx context.Context, typed string) ([]string, error)) {
	err := c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx := c.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		values, err := find(ctx, typed)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return values, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic("cli: complete --" + flag + ": " + err.Error()) // no such flag, or completed twice
	}
}
