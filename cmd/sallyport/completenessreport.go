package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	words "github.com/sallyport/sallyport/identity"
	identity "github.com/sallyport/sallyport/identity/postgres"
)

func newReconciliation() *cobra.Command {
	c := &cobra.Command{
		Use:   "reconciliation",
		Short: "List deployments in Bitbucket whose steps did not use Sallyport",
		Long: `Show the server's comparison of the deployments in Bitbucket with the log: how many
were seen, which were not, and up to when each repository was read. This command
does not query Bitbucket.

A step that needs no network does not use Sallyport, and is listed as not seen too.

The exit status is 0 if every deployment of the period was seen, 1 if one was not,
and 2 if that is not known: a repository could not be read, Bitbucket returned too
little about a deployment, the findings were changed, or there are none.`,
		Args: noArguments,
	}
	from := addLogFlags(c)
	since := c.Flags().String("since", "30d", "deployments that began from when on: `30d` or 12h ago, 2026-11-21, or 2026-11-21T08:40:00Z")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		begin, err := parseMoment(*since, time.Now())
		if err != nil {
			return invalid{fmt.Errorf("--since: %w", err)}
		}
		url, done, err := from.open(c.Context())
		if err != nil {
			return invalid{err} // not 1, which says that something is missing
		}
		defer done()
		report, err := identity.ReadCoverage(c.Context(), url, begin)
		if err != nil {
			return invalid{err}
		}
		if *asJSON {
			err = printJSON(c.OutOrStdout(), report)
		} else {
			err = printCoverage(c.OutOrStdout(), report)
		}
		switch {
		case err != nil:
			return invalid{err}
		case report.Missing():
			return quiet{}
		case report.Unclear():
			return invalid{fmt.Errorf("it could not be told of everything whether it was seen")}
		}
		return nil
	}
	return c
}

// printCoverage tells a report to people.
func printCoverage(out io.Writer, r *identity.CoverageReport) error {
	total := 0
	for _, n := range r.Counts {
		total += n
	}
	fmt.Fprintf(out, "%d deployments since %s that Bitbucket told of, in %d reconciliations\n", total, when(r.Since), r.Reconciliations)
	for _, class := range words.Coverages {
		if n := r.Counts[class]; n > 0 {
			fmt.Fprintf(out, "  %-20s%d\n", class, n)
		}
	}
	for _, id := range r.Changed {
		fmt.Fprintf(out, "CHANGED: what reconciliation %s found is not what it was when it was recorded\n", id)
	}
	for _, id := range r.Foreign {
		fmt.Fprintf(out, "FOREIGN: the log names no reconciliation %s: its rows were put there by somebody else\n", id)
	}
	for _, id := range r.Unrecorded {
		fmt.Fprintf(out, "reconciliation %s is not in the log yet: it goes on, or was interrupted\n", id)
	}
	if len(r.Runs) > 0 {
		fmt.Fprintln(out)
		err := printTable(out, "CLASS\tBEGAN\tREPOSITORY\tDEPLOYMENT\tBUILD\tSTATE\tSTEP\tDETAIL", func(row func(string, ...any)) {
			for _, f := range r.Runs {
				row("%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s", f.Class, when(f.Began), cmp.Or(f.Repository, f.RepositoryUUID), cmp.Or(plain(f.Deployment), "-"),
					f.BuildNumber, f.State, cmp.Or(f.StepUUID, "-"), cmp.Or(plain(f.Detail), "-"))
			}
		})
		if err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	return printTable(out, "REPOSITORY\tOUTCOME\tLOOKED AT\tCOMPLETE UNTIL\tDETAIL", func(row func(string, ...any)) {
		for _, l := range r.Repositories {
			row("%s\t%s\t%s\t%s\t%s", cmp.Or(l.Repository, l.RepositoryUUID), l.Outcome, when(l.Looked), when(l.Until), cmp.Or(plain(l.Detail), "-"))
		}
	})
}

// plain is what Bitbucket said, fit for a terminal.
func plain(text string) string { return audit.Text(text, 1000) }
