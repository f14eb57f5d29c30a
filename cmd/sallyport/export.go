package main

import (
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
)

func sortedDamage(counts map[audit.Damage]int64) []audit.Damage {
	return slices.Sorted(maps.Keys(counts))
}

func newExport() *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the whole audit log as lines of JSON that can be verified without a database",
		Long: `Write the whole audit log as it is at this moment: the records as they were
sealed, with their place in the Merkle tree, the signed checkpoints, and what is
not sealed yet. docs/audit.md has the format; sallyport audit verify --export
reads it.`,
		Args: noArguments,
	}
	from := addLogFlags(c)
	path := c.Flags().StringP("out", "o", "-", "`FILE` to write, which must not be there yet; - is standard output")
	quiet := c.Flags().Bool("quiet", false, "show no progress")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		out := c.OutOrStdout()
		if *path != "-" {
			file, err := os.OpenFile(*path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return invalid{err}
			}
			defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
			out = file
		}
		p := &progress{out: c.ErrOrStderr(), began: time.Now()}
		if *quiet {
			p.out = io.Discard
		}
		x := audit.NewExporter(out)
		if err := walk(c.Context(), from, x, p); err != nil {
			return err
		}
		return x.Close()
	}
	return c
}
