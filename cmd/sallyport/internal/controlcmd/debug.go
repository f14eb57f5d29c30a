package controlcmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
)

// NewDebug makes `sallyport debug`.
func NewDebug() *cobra.Command {
	parent := &cobra.Command{Use: "debug", Short: "Profile and trace a running instance", Args: cli.NoArguments, RunE: cli.Help}
	parent.AddCommand(
		newDebug(admin.DebugProfile, "Write a CPU profile of a running instance", "Read the profile with `go tool pprof`.", true),
		newDebug(admin.DebugTrace, "Write an execution trace of a running instance", "Read the trace with `go tool trace`. A busy instance writes several MiB a second.", true),
		newDebug(admin.DebugGoroutines, "Write the stacks of all goroutines of a running instance", "The text has the number of goroutines for each stack.", false),
		newDebug(admin.DebugHeap, "Write a heap profile of a running instance", "Read the profile with `go tool pprof`. The instance collects its garbage first.", false),
	)
	return parent
}

func newDebug(kind, short, how string, timed bool) *cobra.Command {
	c := &cobra.Command{
		Use:   kind,
		Short: short,
		Long: short + `.

` + how + ` The output has names of functions and files of
the program, counts, sizes and times. It has no contents of memory: no credential and
no target. One such command at a time collects from an instance.
` + controlUsage,
		Args: cli.NoArguments,
	}
	path := c.Flags().StringP("out", "o", "-", "`FILE` to write, which must not be there yet; - is standard output, unless that is a terminal")
	duration := new(time.Duration)
	if timed {
		duration = c.Flags().Duration("duration", 10*time.Second, fmt.Sprintf("how `LONG` to collect, at most %v", admin.MaxDebugDuration))
	}
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		out := c.OutOrStdout()
		if *path == "-" && kind != admin.DebugGoroutines && isTerminal(out) {
			return cli.Invalid(errors.New("standard output is a terminal, and the data are binary: name a file with --out"))
		}
		if *path == "-" {
			data, err := client.Debug(c.Context(), admin.DebugRequest{Kind: kind, Duration: *duration})
			if err == nil {
				_, err = out.Write(data.Data)
			}
			return err
		}
		return debugInto(c, client, *path, admin.DebugRequest{Kind: kind, Duration: *duration})
	})
}

// debugInto writes the data into a new file that only its owner can read. It creates the
// file before the instance collects: a path that cannot be written must not cost a minute.
func debugInto(c *cobra.Command, client *admin.ControlClient, path string, request admin.DebugRequest) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return cli.Invalid(fmt.Errorf("--out: %s exists: choose another name", path))
	}
	if err != nil {
		return cli.Invalid(fmt.Errorf("--out: %w", err))
	}
	data, err := client.Debug(c.Context(), request)
	if err == nil {
		_, err = f.Write(data.Data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: %d bytes\n", path, len(data.Data))
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && cli.IsTerminal(f)
}
