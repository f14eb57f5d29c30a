package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/forwarder"
	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/toolconfig"
)

func newStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the forwarder, restore the files, and print what the step requested",
		Long: `End the forwarder, restore the files that start changed, and print what the step
requested on standard error. On standard output, stop prints a shell script that restores
the variables of the shell that evaluated the script of start:

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
	if _, err := out.Write(restoreScript()); err != nil {
		fmt.Fprintf(errOut, "sallyport-step: warning: print the script: %v\n", err)
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
	report, stopErr := stopForwarder(ctx, dir)
	problems, err := restoreFiles(dir)
	if report == nil && stopErr == nil {
		fmt.Fprintln(errOut, "sallyport-step: no forwarder is running")
	} else if report != nil {
		printReport(errOut, *report)
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

// stopForwarder ends the forwarder of a directory, and returns its report when its process
// has ended; nil: none ran.
func stopForwarder(ctx context.Context, dir session.Dir) (*forwarder.Report, error) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var report forwarder.Report
	err := session.Call(callCtx, dir.Path(), session.Request{Operation: session.OperationStop}, &report)
	if err != nil && !errors.Is(err, session.ErrNotRunning) {
		return nil, err
	}
	endCtx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	if ended := dir.WaitEnded(endCtx); ended != nil {
		return nil, ended
	}
	if err != nil {
		return nil, nil
	}
	return &report, nil
}

// restoreFiles restores what the journal of the directory lists.
func restoreFiles(dir session.Dir) ([]toolconfig.Problem, error) {
	journal, err := toolconfig.OpenJournal(dir.Path())
	if err != nil {
		return nil, err
	}
	return journal.Restore()
}

// printReport prints what a forwarder served.
func printReport(w io.Writer, r forwarder.Report) {
	fmt.Fprintf(w, "sallyport-step: %d requests passed on, %d denied, %d repeats of denied requests\n", r.Allowed, r.Denied, r.Repeats)
	for _, refusal := range r.Refusals {
		fmt.Fprint(w, refusal.Line())
	}
}
