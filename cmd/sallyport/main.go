// Command sallyport is the identity-aware egress proxy for Bitbucket Pipelines,
// and the operator's tool for it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/policy/rego"
)

// version is set by the linker.
var version = ""

func main() {
	rego.ServeWorker() // does not return in a policy worker
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes: usage and configuration are told from what failed at run time.
const (
	exitOK         = 0
	exitFailed     = 1
	exitInvalid    = 2
	exitUnanchored = 3 // nothing wrong was found, and nothing from outside vouches for what was read
)

// invalid is an error in what the operator wrote: the command line or a file.
type invalid struct{ err error }

func (e invalid) Error() string { return e.err.Error() }
func (e invalid) Unwrap() error { return e.err }

// passedOn is the end of a program that the operator asked for, whose status is ours.
type passedOn struct{ status int }

func (e passedOn) Error() string { return fmt.Sprintf("the program ended with status %d", e.status) }

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	return exitOf(err, errOut)
}

// exitOf is the exit code for an error, which it prints. Only the errors of three
// types are those of a command that has printed a report.
func exitOf(err error, errOut io.Writer) int {
	if err == nil {
		return exitOK
	}
	// A program that we ran for the operator has printed what is wrong. Programs that
	// we run for ourselves (git, initdb) end in other errors.
	if exit, ok := errors.AsType[passedOn](err); ok {
		return max(exit.status, exitFailed)
	}
	if _, told := errors.AsType[damaged](err); told || isQuiet(err) {
		return exitFailed
	}
	if _, told := errors.AsType[notAnchored](err); told {
		return exitUnanchored
	}
	reportError(errOut, err)
	if _, ok := errors.AsType[invalid](err); ok {
		return exitInvalid
	}
	return exitFailed
}

// reportError prints an error, and waits no longer than for the last log lines
// where nobody reads.
func reportError(errOut io.Writer, err error) {
	done := make(chan struct{})
	go func() {
		fmt.Fprintf(errOut, "sallyport: %v\n", err)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(logEnd):
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "The guarded way out of a pipeline",
		Long: `Sallyport is an identity-aware egress proxy for Bitbucket Pipelines.

A step sets HTTPS_PROXY to it. Sallyport validates the step's OIDC token,
evaluates the policy for its repository and deployment, and writes the decision
to the audit log before a connection is opened.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       programVersion(),
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return invalid{fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
	})
	root.AddCommand(newServe(), newHealth(), newMigrate(), newConfig(), newAudit(), newPolicy(), newToken(), newTunnels(), newEmergencyStop(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "sallyport %s\n", programVersion())
			return err
		},
	}
}

// programVersion is what the linker was told, or what the build knows of itself.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}

func noArguments(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return invalid{fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath())}
	}
	return nil
}
