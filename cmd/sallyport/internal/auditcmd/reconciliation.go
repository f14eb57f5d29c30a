package auditcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"
)

func newReconciliation() *cobra.Command {
	c := &cobra.Command{
		Use:   "reconciliation",
		Short: "List deployments in Bitbucket whose steps did not use Sallyport",
		Long: `Show the server's comparison of the deployments in Bitbucket with the log: how many
were observed, which were not, and up to when each repository was read. This command
does not query Bitbucket.

A step that needs no network does not use Sallyport, and is listed as unobserved too.

The result is unknown if a repository could not be read, Bitbucket returned too little
about a deployment, the findings were changed, or there are none.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	since := c.Flags().String("since", "30d", "deployments that began from when on: `30d` or 12h ago, 2026-11-21, or 2026-11-21T08:40:00Z")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		begin, err := cli.ParseTime(*since, time.Now())
		if err != nil {
			return cli.Invalid(fmt.Errorf("--since: %w", err))
		}
		url, done, err := from.Open(c.Context())
		if err != nil {
			return err
		}
		defer done()
		report, err := reconcilepg.ReadReport(c.Context(), url, begin)
		if err != nil {
			return err
		}
		if asJSON() {
			err = cli.PrintJSON(c.OutOrStdout(), newCoverageJSON(report))
		} else {
			err = printCoverage(c.OutOrStdout(), report)
		}
		switch {
		case err != nil:
			return err
		case report.Missing():
			return cli.FindingError{}
		case report.Unclear():
			return errors.New("the class of a deployment, or the scan of a repository, is unknown: see CLASS and OUTCOME above")
		}
		return nil
	}
	return c
}

// coverageJSON is the report with its result.
type coverageJSON struct {
	Result string `json:"result"` // complete, missing or unknown
	*reconcilepg.Report
}

func newCoverageJSON(r *reconcilepg.Report) coverageJSON {
	switch {
	case r.Missing():
		return coverageJSON{"missing", r}
	case r.Unclear():
		return coverageJSON{"unknown", r}
	}
	return coverageJSON{"complete", r}
}

// printCoverage prints a report for people.
func printCoverage(out io.Writer, r *reconcilepg.Report) error {
	total := 0
	for _, n := range r.Counts {
		total += n
	}
	fmt.Fprintf(out, "%s since %s that Bitbucket reported, in %s\n", printable.Count(total, "deployment"), cli.FormatTimeOrNever(r.Since), printable.Count(r.Reconciliations, "reconciliation"))
	for _, class := range identity.DeploymentClasses {
		if n := r.Counts[class]; n > 0 {
			fmt.Fprintf(out, "  %-20s%d\n", class, n)
		}
	}
	for _, id := range r.Changed {
		fmt.Fprintf(out, "CHANGED: the findings of reconciliation %s were changed after they were recorded\n", id)
	}
	for _, id := range r.Foreign {
		fmt.Fprintf(out, "FOREIGN: the log names no reconciliation %s: another program inserted its rows\n", id)
	}
	for _, id := range r.Unrecorded {
		fmt.Fprintf(out, "reconciliation %s is not in the log yet: it is still running, or was interrupted\n", id)
	}
	if len(r.Runs) > 0 {
		fmt.Fprintln(out)
		err := cli.PrintTable(out, "CLASS\tBEGAN\tREPOSITORY\tDEPLOYMENT\tBUILD\tSTATE\tSTEP\tDETAIL", func(row func(string, ...any)) {
			for _, f := range r.Runs {
				row("%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s", f.Class, cli.FormatTimeOrNever(f.Began), cmp.Or(f.Repository, f.RepositoryUUID), cmp.Or(plain(f.Deployment), "-"),
					f.BuildNumber, f.State, cmp.Or(f.StepUUID, "-"), cmp.Or(plain(f.Detail), "-"))
			}
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	return cli.PrintTable(out, "REPOSITORY\tOUTCOME\tLOOKED AT\tCOMPLETE UNTIL\tDETAIL", func(row func(string, ...any)) {
		for _, l := range r.Repositories {
			row("%s\t%s\t%s\t%s\t%s", cmp.Or(l.Repository, l.RepositoryUUID), l.Outcome, cli.FormatTimeOrNever(l.Scanned), cli.FormatTimeOrNever(l.Until), cmp.Or(plain(l.Detail), "-"))
		}
	})
}

// plain is a text of Bitbucket, safe for a terminal.
func plain(text string) string { return audit.Text(text, 1000) }
