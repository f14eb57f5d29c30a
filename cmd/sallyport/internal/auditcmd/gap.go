package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
)

func newGap() *cobra.Command {
	parent := &cobra.Command{
		Use:   "gap",
		Short: "List missing events of the audit log, and declare them missing",
		Long: `List missing events of the audit log, and declare them missing.

A process numbers its events from 1 without gaps. If a number is missing, a failover
or a lost disk lost the event, or it was removed before it was sealed. Later
events of that process are then not sealed. Find the cause, and then declare the gap:
the declaration is a signed, permanent event that sallyport audit verify shows.
Events after the gap are then sealed.`,
		Args: cli.NoArguments, RunE: cli.Help,
	}
	parent.AddCommand(newGapList(), newGapDeclare())
	return parent
}

func newGapList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List missing events, including declared ones",
		Long: `List missing events: each gap with the command that declares it, the declared gaps,
and the events that processes reported as lost after a failover. An auditor's login
is sufficient.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddOwnerFlags(c)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return from.UseGaps(c.Context(), func(g *auditsealer.Gaps) error {
			gaps, err := g.List(c.Context())
			if err != nil {
				return err
			}
			lost, err := g.Lost(c.Context())
			if err != nil {
				return err
			}
			open := 0
			if asJSON() {
				open, err = printGapsJSON(c.OutOrStdout(), gaps, lost)
			} else {
				open = printGaps(c.OutOrStdout(), gaps, lost)
			}
			if err == nil && open > 0 {
				return cli.FindingError{}
			}
			return err
		})
	}
	return c
}

// printGaps prints the gaps and returns how many of them are not declared.
func printGaps(out io.Writer, gaps []auditsealer.Gap, lost []audit.LostRange) (open int) {
	for _, g := range gaps {
		writer := audit.Text(g.Writer, 200)
		switch d := g.Declared; {
		case d == nil:
			open++
			fmt.Fprintf(out, "writer %s: events %d to %d are missing, and not declared\n", writer, g.First, g.Last)
			fmt.Fprintf(out, "   the event before is of %s, the next of %s\n", cli.FormatTimeOrNever(g.Before), cli.FormatTimeOrNever(g.After))
			fmt.Fprintf(out, "   sallyport audit gap declare --writer %s --first %d --last %d --reason '…'\n", writer, g.First, g.Last)
		default:
			fmt.Fprintf(out, "writer %s: events %d to %d are missing, declared %s by %s: %s\n", writer, g.First, g.Last, cli.FormatTimeOrNever(d.DeclaredAt), audit.Text(d.Login, 200), d.Reason)
			if d.Index < 0 {
				fmt.Fprintf(out, "   the declaration is not sealed yet\n")
			}
		}
	}
	for _, l := range lost {
		fmt.Fprintf(out, "writer %s: events %d to %d were acknowledged and lost, as writer %s reports %s\n",
			audit.Text(l.Writer, 200), l.First, l.Last, audit.Text(l.By, 200), cli.FormatTimeOrNever(l.At))
	}
	if len(gaps) == 0 && len(lost) == 0 {
		fmt.Fprintln(out, "no event is missing")
	}
	return open
}

func newGapDeclare() *cobra.Command {
	c := &cobra.Command{
		Use:   "declare",
		Short: "Declare events permanently missing",
		Long: `Declare that events of a writer are permanently missing, with a reason, in a signed
event that stays in the log. It needs both the login of audit.migration_url_file and
the key that signs the log. The database rejects a declaration of events that are
recorded or were sealed, or that are not a gap. sallyport audit gap list prints the
command for each gap.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddOwnerFlags(c)
	writer := c.Flags().String("writer", "", "the `WRITER` whose events are missing")
	first := c.Flags().String("first", "", "the first missing `NUMBER`")
	last := c.Flags().String("last", "", "the last missing `NUMBER`")
	reason := c.Flags().String("reason", "", "why they are missing, for readers of the log")
	key := c.Flags().String("signing-key", "", "`FILE` of the private key that signs the log (default: the one of the configuration)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *writer == "" || *reason == "" {
			return cli.Invalid(errors.New("--writer and --reason are needed; sallyport audit gap list prints the command for each gap"))
		}
		numbers := make([]int64, 2)
		for i, text := range []string{*first, *last} {
			var err error
			if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
				return cli.Invalid(fmt.Errorf("--first and --last: %q is not a number of an event", text))
			}
		}
		signer, err := gapSigner(c.Context(), from, *key)
		if err != nil {
			return err
		}
		return from.UseGaps(c.Context(), func(g *auditsealer.Gaps) error {
			number, err := g.Declare(c.Context(), signer, *writer, numbers[0], numbers[1], *reason)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "declared, as event %d of writer %s; what follows the gap is sealed within seconds where an instance runs\n", number, audit.DatabaseWriter)
			return err
		})
	}
	return c
}

// gapSigner reads the log's key: from the file, or the one of the configuration.
func gapSigner(ctx context.Context, f auditdb.OwnerFlags, file string) (*audit.Signer, error) {
	if file != "" {
		private, err := cli.ReadInput(ctx, file, cli.MaxSecretInput)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("--signing-key %w", err))
		}
		signer, err := audit.ParseSigner(string(private))
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("--signing-key %s: %w", file, err))
		}
		return signer, nil
	}
	if *f.URLFile != "" {
		return nil, cli.Invalid(errors.New("--signing-key FILE is needed with --database-url-file"))
	}
	cfg, name, err := cli.LoadConfig(*f.Config)
	if err != nil {
		return nil, err
	}
	signer, err := components.Signer(cfg)
	if err == nil && signer == nil {
		err = cli.Invalid(fmt.Errorf("%s names no signing key, and data_directory has none: give --signing-key", name))
	}
	return signer, err
}
