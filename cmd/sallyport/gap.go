package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditlog "github.com/sallyport/sallyport/audit/postgres"
)

func newGap() *cobra.Command {
	parent := &cobra.Command{
		Use:   "gap",
		Short: "List missing events of the audit log, and declare them missing",
		Long: `List missing events of the audit log, and declare them missing.

A process numbers its events from 1 without gaps. If a number is missing, a failover
or a lost disk lost the event, or somebody removed it before it was sealed. Later
events of that process are then not sealed. Find the cause, and then declare the gap:
the declaration is a signed, permanent event that sallyport audit verify shows.
Events after the gap are then sealed.`,
		Args: noArguments, RunE: help,
	}
	parent.AddCommand(newGapList(), newGapDeclare())
	return parent
}

// useGaps opens the database that the flags name.
func (f ownerFlags) useGaps(ctx context.Context, act func(*auditlog.Gaps) error) error {
	url, done, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	g, err := auditlog.OpenGaps(ctx, url)
	if err != nil {
		return err
	}
	defer g.Close()
	return act(g)
}

func newGapList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List missing events, including declared ones",
		Long: `List missing events: each gap with the command that declares it, the declared gaps,
and the events that processes reported as lost after a failover. An auditor's login
is sufficient.`,
		Args: noArguments,
	}
	from := addOwnerFlags(c)
	asJSON := addFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return from.useGaps(c.Context(), func(g *auditlog.Gaps) error {
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
				return found{}
			}
			return err
		})
	}
	return c
}

// printGaps prints the gaps and returns how many of them are not declared.
func printGaps(out io.Writer, gaps []auditlog.Gap, lost []audit.LostRange) (open int) {
	for _, g := range gaps {
		writer := audit.Text(g.Writer, 200)
		switch d := g.Declared; {
		case d == nil:
			open++
			fmt.Fprintf(out, "writer %s: events %d to %d are missing, and not declared\n", writer, g.First, g.Last)
			fmt.Fprintf(out, "   the event before is of %s, the next of %s\n", when(g.Before), when(g.After))
			fmt.Fprintf(out, "   sallyport audit gap declare --writer %s --first %d --last %d --reason '…'\n", writer, g.First, g.Last)
		default:
			fmt.Fprintf(out, "writer %s: events %d to %d are missing, declared %s by %s: %s\n", writer, g.First, g.Last, when(d.DeclaredAt), audit.Text(d.Login, 200), d.Reason)
			if d.Index < 0 {
				fmt.Fprintf(out, "   the declaration is not sealed yet\n")
			}
		}
	}
	for _, l := range lost {
		fmt.Fprintf(out, "writer %s: events %d to %d were acknowledged and lost, as writer %s reports %s\n",
			audit.Text(l.Writer, 200), l.First, l.Last, audit.Text(l.By, 200), when(l.At))
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
		Args: noArguments,
	}
	from := addOwnerFlags(c)
	writer := c.Flags().String("writer", "", "the `WRITER` whose events are missing")
	first := c.Flags().String("first", "", "the first missing `NUMBER`")
	last := c.Flags().String("last", "", "the last missing `NUMBER`")
	reason := c.Flags().String("reason", "", "why they are missing, for readers of the log")
	key := c.Flags().String("signing-key", "", "`FILE` of the private key that signs the log (default: the one of the configuration)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *writer == "" || *reason == "" {
			return invalid{errors.New("--writer and --reason are needed; sallyport audit gap list prints the command for each gap")}
		}
		numbers := make([]int64, 2)
		for i, text := range []string{*first, *last} {
			var err error
			if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
				return invalid{fmt.Errorf("--first and --last: %q is not a number of an event", text)}
			}
		}
		signer, err := from.signer(c.Context(), *key)
		if err != nil {
			return err
		}
		return from.useGaps(c.Context(), func(g *auditlog.Gaps) error {
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

// signer reads the log's key: from the file, or as the configuration says.
func (f ownerFlags) signer(ctx context.Context, file string) (*audit.Signer, error) {
	if file != "" {
		private, err := readInput(ctx, file, maxSecretInput)
		if err != nil {
			return nil, invalid{fmt.Errorf("--signing-key %w", err)}
		}
		signer, err := audit.ParseSigner(string(private))
		if err != nil {
			return nil, invalid{fmt.Errorf("--signing-key %s: %w", file, err)}
		}
		return signer, nil
	}
	if *f.url != "" {
		return nil, invalid{errors.New("--signing-key FILE is needed with --database-url-file")}
	}
	cfg, name, err := loadConfig(*f.config)
	if err != nil {
		return nil, err
	}
	signer, err := configuredSigner(cfg)
	if err == nil && signer == nil {
		err = invalid{fmt.Errorf("%s names no signing key, and data_directory has none: give --signing-key", name)}
	}
	return signer, err
}
