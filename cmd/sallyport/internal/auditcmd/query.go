package auditcmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
)

func newQuery() *cobra.Command {
	c := &cobra.Command{
		Use:   "query",
		Short: "List the events of the audit log that match filters",
		Long: `List the events of the audit log that match all of the filters, the newest first.
A filter that is given more than once, or a list with commas, means any of its
values. Times are UTC.

  sallyport audit query --verdict deny --repository acme/payments
  sallyport audit query --since 30d --host '*.partner.example' --kind decision --format csv --out partner.csv
  sallyport audit query --since 2026-10-01 --until 2026-11-01 --would-deny --format json

--format table shows a few columns, json (a line for each event) and csv all but
those of --columns that are only given where they are named: leaf, attributes,
record. A duration is in microseconds. No cell of the CSV is a formula to a
spreadsheet: docs/audit.md describes it, and how to restore the text.

--out writes a file that must not be there yet, whole or not at all, and records
in the log what was handed out: the filters, the number of rows and the SHA-256
of the file. What goes to standard output is not recorded.

Where nothing matches the status is 0, and a line on standard error reports that.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	filters := addFilterFlags(c, from, "24h")
	until := c.Flags().String("until", "now", "before when, written in the same way")
	order := cli.AddChoiceFlag(c, "order", "which events come first", "newest", "oldest")
	limit := c.Flags().Int64("limit", 0, "give at most `N` events; 0 is all")
	columns := c.Flags().StringSlice("columns", nil, "give these `COLUMNS`, or all")
	format := cli.AddChoiceFlag(c, "format", "how to print them", formats...)
	path := c.Flags().StringP("out", "o", "-", "`FILE` to write, which must not be there yet; - is standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		now := time.Now()
		q, err := filters.filter(now)
		if err == nil {
			err = filters.between(q, *until, now)
		}
		if err == nil {
			q.Oldest, q.Limit = order.Value == "oldest", *limit
			err = checkLimit(*limit)
		}
		if err == nil {
			q.Columns, err = chosenColumns(*columns, format.Value)
		}
		if err != nil {
			return cli.Invalid(fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath()))
		}
		request := query{from: from, filter: q, format: format.Value, out: *path}
		return cli.UntilBrokenPipe(func() error { return request.run(c) })
	}
	return c
}

func checkLimit(limit int64) error {
	if limit < 0 {
		return fmt.Errorf("--limit %d: want a number of events, or 0 for all", limit)
	}
	return nil
}

// tableColumns are the default columns of a table: they fit a screen.
var tableColumns = []string{"time", "kind", "verdict", "reason", "repository", "deployment", "host", "port", "rule", "decision_id"}

func chosenColumns(given []string, format string) ([]string, error) {
	switch {
	case len(given) == 0 && format == "table":
		return tableColumns, nil
	case len(given) == 1 && given[0] == "all":
		return auditreader.Columns(true), nil
	}
	for i, name := range given {
		if err := cli.OneOf("--columns", name, auditreader.Columns(true)); err != nil {
			return nil, err
		}
		if slices.Contains(given[:i], name) {
			return nil, fmt.Errorf("--columns has %s twice", name)
		}
	}
	return given, nil
}

// query is a query and the destination of its rows.
type query struct {
	from   auditdb.Flags
	filter *auditreader.Filter
	format string
	out    string
}

func (q *query) run(c *cobra.Command) (err error) {
	var file *auditdb.OutFile
	if q.out != "-" {
		if file, err = auditdb.CreateOut(q.out); err != nil {
			return cli.Invalid(err)
		}
		defer file.Discard()
	}
	url, done, err := q.from.Open(c.Context())
	if err != nil {
		return err
	}
	defer done()
	querier, err := auditreader.OpenQuerier(c.Context(), url)
	if err != nil {
		return err
	}
	defer querier.Close()
	out := io.Writer(c.OutOrStdout())
	if file != nil {
		out = file
	}
	rows, err := writeRows(c.Context(), querier, q, out)
	if err != nil {
		return err
	}
	if rows == 0 {
		fmt.Fprintf(c.ErrOrStderr(), "nothing matches from %s to %s\n", cli.FormatTime(q.filter.Since), cli.FormatTime(q.filter.Until))
	}
	if file == nil {
		return nil
	}
	sequence, err := file.Publish(c.Context(), querier, auditreader.Export{
		What: "audit query", Parameters: q.parameters(), Rows: rows, Tool: "sallyport " + cli.Version(),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: %s from %s to %s, sha256 %x, recorded as event %d of the writer database\n",
		q.out, printable.Count(rows, "row"), cli.FormatTime(q.filter.Since), cli.FormatTime(q.filter.Until), file.Digest(), sequence)
	return nil
}

// writeRows writes the rows in the requested format.
func writeRows(ctx context.Context, querier *auditreader.Querier, q *query, out io.Writer) (int64, error) {
	buffered := bufio.NewWriterSize(out, 64<<10)
	w := newRowWriter(q.format, buffered, q.filter.Columns)
	rows, err := querier.Query(ctx, q.filter, w.row)
	if err == nil {
		err = w.close()
	}
	if err == nil {
		err = buffered.Flush()
	}
	if ctx.Err() != nil {
		return rows, fmt.Errorf("interrupted after %s", printable.Count(rows, "row"))
	}
	return rows, err
}
