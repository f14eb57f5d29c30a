package verifycmd

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
)

func newEvidenceCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Check an evidence pack, with nothing but its folder",
		Long: `Check the signature of the manifest and the digest of every file, and that no file is
missing or extra. Draw the sample again, check every proof, recompute the tables and
the report from the population, and compare.

With --key the manifest and the checkpoint have to be signed by a given key or a
successor of it; give both the key of the log and that of the pack's maker if they
differ. With --checkpoint one of the checkpoints in the file has to be valid: equal to
the pack's own, or connected with it by a proof (RFC 6962 section 2.1.2). The pack has
proofs for the last checkpoint of each hour of its period and of each day before it,
and for those given when it was made; "audit proof --from-size --to-size" prints
others, for --proof.

A pack that nothing from outside vouches for is whole, not anchored: the status is 1 for
it too. --unanchored accepts it.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Invalid(fmt.Errorf("which pack? Give one folder\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	trusted := addTrustFlags(c, "a public `KEY` of the log or of the pack's signer, or a file with one on each line; may be given again")
	proofs := c.Flags().StringArray("proof", nil, "`FILE` of consistency proofs between the pack's checkpoint and others; may be given again")
	asJSON := cli.AddFormatFlag(c)
	unsigned := c.Flags().Bool("unsigned", false, "accept a pack without a signature")
	quiet := c.Flags().Bool("quiet", false, "show no progress")
	c.RunE = func(c *cobra.Command, args []string) error {
		given, err := trusted.read(c.Context())
		if err != nil {
			return cli.Invalid(err)
		}
		o := evidence.CheckOptions{Trust: given.trust, Unsigned: *unsigned, Tool: "sallyport " + cli.Version()}
		if o.Proofs, err = readProofs(c.Context(), *proofs); err != nil {
			return cli.Invalid(err)
		}
		if p := cli.NewProgress(c.ErrOrStderr(), *quiet); p.Out != io.Discard {
			o.Progress = stages(p.Out)
		}
		checked, err := evidence.Check(c.Context(), args[0], o)
		if err != nil {
			return cli.Invalid(err)
		}
		result := checkedResult(checked, o, given)
		if asJSON() {
			return printCheckedJSON(c.OutOrStdout(), args[0], checked, given, result)
		}
		return printChecked(c.OutOrStdout(), checked, result, given)
	}
	return c
}

func readProofs(ctx context.Context, paths []string) ([]*audit.Consistency, error) {
	var proofs []*audit.Consistency
	for _, path := range paths {
		text, err := cli.ReadInput(ctx, path, cli.MaxProofInput)
		if err != nil {
			return nil, fmt.Errorf("--proof %w", err)
		}
		list, err := audit.ReadConsistencies(text)
		if err != nil {
			return nil, fmt.Errorf("--proof %s: %w", path, err)
		}
		proofs = append(proofs, list...)
	}
	return proofs, nil
}

// checkedResult judges a pack.
func checkedResult(r *evidence.Checked, o evidence.CheckOptions, given *givenTrust) trustResult {
	switch {
	case len(r.Findings) > 0 || r.Manifest != nil && !r.Manifest.Sound:
		return resultDamaged
	case r.Established(o):
		return resultSound
	case given.unanchored:
		return resultAccepted
	}
	return resultNotAnchored
}

// printChecked prints the result, and returns an error for every status but 0.
func printChecked(out io.Writer, r *evidence.Checked, result trustResult, given *givenTrust) error {
	var b reportText
	if m := r.Manifest; m != nil {
		b.line("period", "%s until before %s", cli.FormatTimeOrNever(m.Parameters.From), cli.FormatTimeOrNever(m.Parameters.To))
		b.line("population", "%s", printable.Count(m.Population, "decision"))
		b.line("files", "%d of %d bytes", r.Files, r.Bytes)
		switch {
		case r.SignedBy == "":
			b.line("signature", "none: the origin of the pack is unknown")
		case r.Vouched:
			b.line("signature", "by %s, which was given or which a given key handed over to", r.SignedBy)
		default:
			b.line("signature", "by %s, which only the pack itself names", r.SignedBy)
		}
	}
	if r.CheckpointBy != "" {
		b.line("checkpoint", "signed by %s, which was given or which a given key handed over to", r.CheckpointBy)
	}
	if r.Anchored {
		b.line("anchored", "the checkpoint from outside of size %d is valid", r.AnchoredSize)
	}
	for _, w := range append(given.warnings, r.Warnings...) {
		b.line("warning", "%s", w)
	}
	for _, note := range r.Notes {
		b.line("note", "%s", note)
	}
	b.checked(r, result)
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	return result.err()
}

func (b *reportText) checked(r *evidence.Checked, result trustResult) {
	const whole = "whole: nothing of the pack was changed"
	switch result {
	case resultSound:
		b.line("result", "%s", whole)
	case resultAccepted:
		b.line("result", "%s; not anchored, as --unanchored accepts", whole)
	case resultNotAnchored:
		b.line("result", "%s", unanchoredResult)
		b.line("", "give --key with the public keys of the log and of the maker of the pack, and --checkpoint with a file that was kept outside; --unanchored accepts this")
	default:
		if len(r.Findings) == 0 {
			b.line("result", "%s. THE LOG IS DAMAGED according to the pack: see its report", whole)
			return
		}
		b.line("result", "DAMAGED")
		for i, f := range r.Findings {
			name := ""
			if i == 0 {
				name = "first"
			}
			b.line(name, "%s", f)
		}
	}
}
