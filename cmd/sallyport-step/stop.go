package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/report"
	"github.com/sallyport/sallyport/step/session"
)

func newStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the forwarder, restore the files, and print what the step requested",
		Long: `End the forwarder, restore the files that start changed, and print what the step
requested on standard error. If the shell evaluated the script of start, stop prints a shell
script on standard output that restores the variables:

  eval "$(sallyport-step stop)"

A file that was edited after start keeps the edit; stop names a file from which the part of
sallyport-step could not be removed. stop without a forwarder is not an error.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return stop(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
}

func stop(ctx context.Context, out, errOut io.Writer) error {
	if inScript(os.Getenv) {
		if _, err := out.Write(restoreScript()); err != nil {
			fmt.Fprintf(errOut, "sallyport-step: warning: print the script: %v\n", err)
		}
	}
	path, err := session.Path(os.Getenv)
	if err != nil {
		return err
	}
	dir, err := session.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(errOut, "sallyport-step: no forwarder is running")
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	step, stepErr := askStep(ctx, dir.Path())
	served, stopErr := stopForwarder(ctx, dir)
	problems, err := restoreFiles(dir)
	if served == nil && stopErr == nil {
		fmt.Fprintln(errOut, "sallyport-step: no forwarder is running")
	} else if served != nil {
		server := func(context.Context) (*stepapi.Step, error) { return step, stepErr }
		if err := report.Run(ctx, report.Config{Server: server, Local: served}, errOut); err != nil {
			fmt.Fprintf(errOut, "sallyport-step: warning: %v\n", err)
		}
	}
	if err := errors.Join(stopErr, err); err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintf(errOut, "sallyport-step: not restored: %s\n", singleLine(p.String()))
	}
	if err := dir.Remove(); err != nil {
		return err
	}
	if len(problems) > 0 {
		return statusError{status: exitFailed}
	}
	return nil
}
