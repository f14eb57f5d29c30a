// Command sallyport-step runs inside a build step. It starts a forwarder on loopback that
// adds the step's token to the requests of build tools, and configures the tools to use it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	args := os.Args[1:]
	printOpening(args, os.Stdout) // first of all: see package shell
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted by a signal: %w", err)
	}
	if isStart(args) && err != nil && printFailure(out, err) == nil {
		errOut = io.Discard // the script reports the cause
	}
	return exitOf(err, errOut)
}

const rootText = `sallyport-step runs inside a build step.

It starts a forwarder on 127.0.0.1 that speaks HTTP proxy and SOCKS 5 without credentials
to the step's tools, and TLS with the step's OIDC token to Sallyport. The first line of a
step's script is

  eval "$(sallyport-step start --proxy https://egress.example:3129 || echo false)"

and the last line of its after-script is

  sallyport-step stop`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "sallyport-step",
		Short:         "Configure a build step to use Sallyport",
		Long:          rootText,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       programVersion(),
		Args:          noArguments,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return invalid(fmt.Errorf("%w%s\nsee: %s --help", err, suggestFlag(c, err), c.CommandPath()))
	})
	root.AddCommand(newStart(), newStop(), newServe(), newRun(), newConnect(), newForward(), newDoctor(), newReport(), newCheckNetwork(), newVersion())
	documentExits(root)
	return root
}
