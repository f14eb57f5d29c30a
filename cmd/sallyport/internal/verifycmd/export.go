package verifycmd

import (
	"context"
	"crypto/sha256"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// NewExport makes `sallyport audit export`.
func NewExport() *cobra.Command {
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the whole audit log as lines of JSON that can be verified without a database",
		Long: `Write the whole audit log as it is at this moment: the records as they were
sealed, with their place in the Merkle tree, the signed checkpoints, and what is
not sealed yet. docs/audit.md has the format; sallyport audit verify --export
reads it.

The export is recorded in the log, with its SHA-256.
If that cannot be recorded, there is no file.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	path := c.Flags().StringP("out", "o", "-", "`FILE` to write, which must not be there yet; - is standard output")
	quiet := c.Flags().Bool("quiet", false, "show no progress")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var file *auditdb.OutFile
		if *path != "-" {
			var err error
			if file, err = auditdb.CreateOut(*path); err != nil {
				return cli.Invalid(err)
			}
			defer file.Discard()
		}
		p := cli.NewProgress(c.ErrOrStderr(), *quiet)
		url, done, err := from.Open(c.Context())
		if err != nil {
			return err
		}
		defer done()
		return export(c.Context(), url, c.OutOrStdout(), file, p)
	}
	return c
}

// export writes the log to the file, or where there is none to out, and records
// that.
func export(ctx context.Context, url string, out io.Writer, file *auditdb.OutFile, p *cli.Progress) error {
	sum := sha256.New()
	if file != nil {
		out = file
	}
	counted := &counter{Exporter: audit.NewExporter(io.MultiWriter(out, sum))}
	if err := walkURL(ctx, url, counted, p); err != nil {
		return err
	}
	if err := counted.Close(); err != nil {
		return err
	}
	querier, err := auditreader.OpenQuerier(ctx, url)
	if err != nil {
		return err
	}
	defer querier.Close()
	x := auditreader.Export{
		What: "audit export", Parameters: []byte("{}"), Rows: counted.rows, Digest: [sha256.Size]byte(sum.Sum(nil)), Tool: "sallyport " + cli.Version(),
	}
	if file != nil {
		_, err = file.Publish(ctx, querier, x)
		return err
	}
	_, err = querier.RecordExport(ctx, x)
	return err
}

// counter counts the events that an exporter is given.
type counter struct {
	*audit.Exporter
	rows int64
}

func (c *counter) Sealed(e *audit.Entry) {
	if e.Record != nil {
		c.rows++
	}
	c.Exporter.Sealed(e)
}

func (c *counter) Unsealed(e *audit.Entry) {
	c.rows++
	c.Exporter.Unsealed(e)
}
