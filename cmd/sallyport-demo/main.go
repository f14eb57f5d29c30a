// Command sallyport-demo is the tour: it starts an emulated Bitbucket, an
// upstream and the real server, lets six steps try to get out with the real
// curl, changes policy by a push, and shows what each saw and what the audit log holds.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	c := &cobra.Command{
		Use:           "sallyport-demo",
		Short:         "Run six pipeline steps through Sallyport and show the result",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			o.out = c.OutOrStdout()
			return demo(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.sallyport, "sallyport", "bin/sallyport", "the server's `program`")
	c.Flags().BoolVar(&o.once, "once", false, "exit after the tour, with status 0 only if the result is as expected")
	c.Flags().StringVar(&o.directory, "directory", "", "directory for all files (default: a temporary `DIR`, removed at the end)")
	c.AddCommand(newBitbucketCommand())
	if err := c.ExecuteContext(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			os.Exit(130)
		}
		fmt.Fprintf(os.Stderr, "sallyport-demo: %v\n", err)
		os.Exit(1)
	}
}
