package policycmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

func newPolicyVendor() *cobra.Command {
	c := &cobra.Command{
		Use:   "vendor DIR",
		Short: "Copy the library into a policy repository",
		Long: `Write the library data.sallyport.lib that this program ships into DIR/` + policy.LibraryFolder + `,
so that editors and plain "opa test DIR" know it. A server reads nothing there: what
decides is the library of the program that runs. Files of an older version are
replaced, and those that the library does not have any more are removed.`,
		Args: oneDirectory,
	}
	check := c.Flags().Bool("check", false, "write nothing, and fail where the copy is not this program's")
	c.RunE = func(c *cobra.Command, args []string) error {
		changed, err := vendorLibrary(args[0], !*check)
		switch {
		case err != nil:
			return err
		case *check && changed > 0:
			return fmt.Errorf("%s: %s of another version: run sallyport policy vendor %s", filepath.Join(args[0], policy.LibraryFolder), printable.Count(changed, "file"), args[0])
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, %d changed\n", filepath.Join(args[0], policy.LibraryFolder), printable.Count(len(rego.Library()), "file"), changed)
		return err
	}
	return c
}

// vendorLibrary brings the copy up to date, or only counts what differs. It stays
// inside of the directory, whatever links lie there.
func vendorLibrary(directory string, write bool) (changed int, err error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return 0, cli.Invalid(err)
	}
	defer root.Close()
	if write {
		if err := root.MkdirAll(policy.LibraryFolder, 0o755); err != nil {
			return 0, err
		}
	}
	ours := map[string]bool{}
	for _, f := range rego.Library() {
		ours[filepath.Base(f.Path)] = true
		there, err := root.ReadFile(f.Path)
		if err == nil && bytes.Equal(there, f.Content) {
			continue
		}
		changed++
		if !write {
			continue
		}
		if err := root.WriteFile(f.Path, f.Content, 0o644); err != nil {
			return changed, err
		}
	}
	removed, err := removeStrays(root, ours, write)
	return changed + removed, err
}

// removeStrays removes the copy's files that the library does not have, or only counts them.
func removeStrays(root *os.Root, ours map[string]bool, write bool) (changed int, err error) {
	folder, err := root.Open(policy.LibraryFolder)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return changed, err
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return changed, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".rego" || ours[e.Name()] {
			continue
		}
		changed++
		if write {
			if err := root.Remove(policy.LibraryFolder + "/" + e.Name()); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}
