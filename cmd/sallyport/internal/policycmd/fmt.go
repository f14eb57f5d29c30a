package policycmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyFmt() *cobra.Command {
	c := &cobra.Command{
		Use:   "fmt DIR",
		Short: "Format a policy's files",
		Long: `Bring the Rego files of the policy in DIR into the form that "opa fmt" gives them,
and name those that were changed. A file that does not parse, or would lose a
comment, is left as it is and named.`,
		Args: oneDirectory,
	}
	check := c.Flags().Bool("check", false, "write nothing, and fail where a file would be changed")
	c.RunE = func(c *cobra.Command, args []string) error {
		snapshot, err := policyTree(c.Context(), args[0])
		if err != nil {
			return err
		}
		return formatTree(c.Context(), c.OutOrStdout(), args[0], snapshot, !*check)
	}
	return c
}

// formatTree formats each file for itself. It stays inside of the directory.
func formatTree(ctx context.Context, out io.Writer, directory string, snapshot *policy.Snapshot, write bool) error {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return cli.Invalid(err)
	}
	defer root.Close()
	changed, failed := 0, 0
	for _, f := range snapshot.Files {
		if filepath.Ext(f.Path) != ".rego" {
			continue
		}
		if faults, ok := f.Faults(); ok {
			failed++
			for _, fault := range faults {
				printPolicyErrors(out, directory, "", rego.Errors{{File: fault.Path, Message: fault.Message}})
			}
			continue
		}
		formatted, err := rego.Format(ctx, f.Path, f.Content)
		if faults, ok := errors.AsType[rego.Errors](err); ok {
			failed++
			printPolicyErrors(out, directory, "", faults)
			continue
		}
		if err != nil {
			return err
		}
		if bytes.Equal(formatted, f.Content) {
			continue
		}
		changed++
		if write {
			if err := replace(root, filepath.FromSlash(f.Path), formatted); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, filepath.Join(directory, f.Path))
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%s: %s left unchanged", directory, printable.Count(failed, "file"))
	case !write && changed > 0:
		return fmt.Errorf("%s: %s not formatted: run sallyport policy fmt %s", directory, printable.Count(changed, "file"), directory)
	}
	return nil
}

// replace puts other content into a file in one step: a server may be reading it.
func replace(root *os.Root, path string, content []byte) error {
	info, err := root.Stat(path)
	if err != nil {
		return err
	}
	if err := root.WriteFile(path+".new", content, info.Mode().Perm()); err != nil {
		return err
	}
	return root.Rename(path+".new", path)
}
