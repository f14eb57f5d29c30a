// Command sallyport-step runs inside a build step. It starts a forwarder on loopback that
// adds the step's token to the requests of build tools, and configures the tools to use it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/internal/nearest"
)

// version and commit are set by the linker.
var version, commit string

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

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "sallyport-step %s\ncommit         %s\ngo             %s %s/%s\n",
				programVersion(), orUnknown(commit), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// programVersion is what the linker set, or what the build knows.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		return orUnknown(info.Main.Version)
	}
	return "unknown"
}

func orUnknown(s string) string {
	if strings.TrimSpace(s) == "" {
		return "unknown"
	}
	return s
}
