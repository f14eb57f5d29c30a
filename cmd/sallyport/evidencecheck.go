package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit/evidence"
)

func newEvidenceCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Check an evidence pack, with nothing but its folder",
		Long: `Check the signature of the manifest, the digest of every file, that none is missing
and none too many; draw the sample again, check every proof, and make the tables
and the report again from the population, and compare.

With --key the manifest has to be signed by this key, and the checkpoint by it or
by one that hands over to it, or to which it does. With --checkpoint the pack's
checkpoint has to be one that was kept outside of the database.

The status is 0 where nothing was found, 1 where the pack is damaged, or whole and
about a log that is, and 2 where it could not be read.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return invalid{fmt.Errorf("which pack? Give one folder\nsee: %s --help", c.CommandPath())}
			}
			return nil
		},
	}
	checkpoints := c.Flags().StringArray("checkpoint", nil, "`FILE` of checkpoints from outside the database; may be given again")
	keys := c.Flags().StringArray("key", nil, "a public `KEY` of the log or of who signed the pack, or a file with one on each line; may be given again")
	unsigned := c.Flags().Bool("unsigned", false, "take a pack that nobody has signed")
	c.RunE = func(c *cobra.Command, args []string) error {
		trust, err := readTrust(*keys, *checkpoints)
		if err != nil {
			return invalid{err}
		}
		checked, err := evidence.Check(c.Context(), args[0], evidence.CheckOptions{Trust: trust, Unsigned: *unsigned, Tool: "sallyport " + programVersion()})
		if err != nil {
			return invalid{err} // not 1, which says that it is damaged
		}
		return tellChecked(c.OutOrStdout(), checked)
	}
	return c
}

// tellChecked prints what was found.
func tellChecked(out io.Writer, r *evidence.Checked) error {
	var b strings.Builder
	line := func(name, format string, a ...any) {
		fmt.Fprintf(&b, "%-14s"+format+"\n", append([]any{name}, a...)...)
	}
	sound := true
	if m := r.Manifest; m != nil {
		sound = m.Sound
		line("period", "%s until before %s", when(m.Parameters.From), when(m.Parameters.To))
		line("population", "%d decisions", m.Population)
		line("files", "%d of %d bytes", r.Files, r.Bytes)
		switch {
		case r.SignedBy == "":
			line("signature", "none: anybody can have made it")
		case r.Vouched:
			line("signature", "by %s, which was given from outside or is bound to a key that was", r.SignedBy)
		default:
			line("signature", "by %s, which nobody but the pack vouches for", r.SignedBy)
		}
	}
	if r.Anchored {
		line("anchored", "its checkpoint is one that was kept outside")
	}
	for _, note := range r.Notes {
		line("note", "%s", note)
	}
	switch {
	case len(r.Findings) > 0:
		line("result", "DAMAGED")
		for i, f := range r.Findings {
			name := ""
			if i == 0 {
				name = "first"
			}
			line(name, "%s", f)
		}
	case !sound:
		line("result", "whole: nothing of the pack was changed. THE LOG IS DAMAGED: the pack says so, see its report")
	default:
		line("result", "whole: nothing of the pack was changed")
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if len(r.Findings) > 0 || !sound {
		return damaged{}
	}
	return nil
}
