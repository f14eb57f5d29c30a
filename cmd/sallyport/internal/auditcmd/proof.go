package auditcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/uuid"
)

func newProof() *cobra.Command {
	c := &cobra.Command{
		Use:   "proof ID | proof --from-size SIZE [--to-size SIZE]",
		Short: "Prove that a decision and its end are in the signed log, or that the log only grew",
		Long: `Print, as a line of JSON for each event of a decision, its record, its place in
the Merkle tree, the hashes from its leaf to the root (RFC 6962 section 2.1.1) and
the signed checkpoint with that root. A reader with the log's public key needs nothing
else to check it. The proof is verified before it is printed.

With --from-size and --to-size, print a proof that the larger tree extends the smaller
one (RFC 6962 section 2.1.2), as a line of JSON with both roots. It connects two
checkpoints of these sizes, for "audit evidence check --proof".

  sallyport audit proof --from-size 1042 --to-size 5310 > proof.json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && c.Flags().Changed("from-size") {
				return nil
			}
			if len(args) != 1 || c.Flags().Changed("from-size") || c.Flags().Changed("to-size") {
				return cli.Invalid(fmt.Errorf("give the id of one decision, or --from-size and --to-size\nsee: %s --help", c.CommandPath()))
			}
			return nil
		},
	}
	from := auditdb.AddFlags(c)
	fromSize := c.Flags().Int64("from-size", 0, "the size of the smaller tree, as a checkpoint names it")
	toSize := c.Flags().Int64("to-size", 0, "the size of the larger tree (default: that of the latest checkpoint)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return proveConsistency(c, from, *fromSize, *toSize)
		}
		id, ok := uuid.Parse(args[0])
		if !ok {
			return cli.Invalid(fmt.Errorf("%q is not a decision's id: it is a UUID such as 01a1fdf4-c192-7cf7-900b-49ceb24f5238", args[0]))
		}
		return proveDecision(c, from, id)
	}
	return c
}

// proveDecision prints a proof for each event of a decision.
func proveDecision(c *cobra.Command, from auditdb.Flags, id string) error {
	url, done, err := from.Open(c.Context())
	if err != nil {
		return err
	}
	defer done()
	found, err := auditreader.Find(c.Context(), url, id)
	if err != nil {
		return err
	}
	if len(found.Records) == 0 {
		return fmt.Errorf("the log has no decision %s", id)
	}
	r, err := auditreader.Open(c.Context(), url)
	if err != nil {
		return err
	}
	defer r.Close()
	out := json.NewEncoder(c.OutOrStdout())
	out.SetEscapeHTML(false)
	for _, record := range found.Records {
		line, err := prove(c.Context(), r, record, auditreader.Latest)
		if err != nil {
			return err
		}
		if line.skipped > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "%d later checkpoints that cover the event are signed by no key of the log, and were not used: run `sallyport audit verify`\n", line.skipped)
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func proveConsistency(c *cobra.Command, from auditdb.Flags, fromSize, toSize int64) error {
	if fromSize < 1 || toSize < 0 || toSize > 0 && toSize <= fromSize {
		return cli.Invalid(errors.New("--from-size and --to-size: want sizes of at least 1, the smaller one first"))
	}
	url, done, err := from.Open(c.Context())
	if err != nil {
		return err
	}
	defer done()
	r, err := auditreader.Open(c.Context(), url)
	if err != nil {
		return err
	}
	defer r.Close()
	if toSize == 0 {
		toSize = r.Leaves()
	}
	proof, err := r.Consistency(c.Context(), fromSize, toSize)
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(proof.AppendLine(nil))
	return err
}

// proofLine is what is printed. The record is text, so that its bytes survive
// reading and writing the line again.
type proofLine struct {
	Record     string       `json:"record"`
	Leaf       int64        `json:"leaf"`
	Hashes     []audit.Hash `json:"hashes"`
	Checkpoint string       `json:"checkpoint"`
	skipped    int          // checkpoints that no key of the log signed
}

func prove(ctx context.Context, r *auditreader.Reader, record []byte, under auditreader.Which) (*proofLine, error) {
	var values struct {
		Writer   string `json:"writer"`
		Sequence int64  `json:"writer_sequence"`
	}
	if err := json.Unmarshal(record, &values); err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	p, err := r.Prove(ctx, values.Writer, values.Sequence, under)
	if err != nil {
		return nil, err
	}
	checkpoint, err := audit.ReadCheckpoint(p.Checkpoint)
	if err != nil {
		return nil, err
	}
	if err := audit.CheckInclusion(p.Hashes, checkpoint.Size, checkpoint.Root, p.Index, audit.Leaf(record)); err != nil {
		return nil, errors.Join(err, errors.New("the record is not the one that was sealed: run `sallyport audit verify`"))
	}
	return &proofLine{string(record), p.Index, p.Hashes, string(p.Checkpoint), p.Skipped}, nil
}
