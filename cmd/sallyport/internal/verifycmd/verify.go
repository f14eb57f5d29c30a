package verifycmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// NewVerify makes `sallyport audit verify`.
func NewVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "Verify that nothing in the audit log was changed or removed",
		Long: `Read the whole audit log, or an export of it, and compare every event with the Merkle
tree and every tree with its signed checkpoint.

With --checkpoint, a file of checkpoints that were published outside of the database,
the log is also compared with these. That detects a log whose end was cut off, an
older backup, and a log that was rewritten as a whole. With --key, this key or a
successor must have signed the log; it vouches for all events under the checkpoints
that it signed. A key that the log only names vouches for nothing. With a
configuration and without --checkpoint, the log is compared with the files of
checkpoints that this instance published.

Events that were sealed long after their own time are listed as late, with the
checkpoint that first covers them: they were in a journal, their writer's clock was
behind, or they were backdated. Late events are not damage.

A log that nothing from outside vouches for is consistent, not anchored: the status is
1 for it too. --unanchored accepts it.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	export := c.Flags().String("export", "", "verify this export and no database; - is standard input")
	trusted := addTrustFlags(c, "a public `KEY` of the log, or a file with one on each line; may be given again")
	asJSON := cli.AddFormatFlag(c)
	quiet := c.Flags().Bool("quiet", false, "show no progress")
	maxLateness, maxSilence := addMaxLateness(c), addMaxSilence(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		given, err := trusted.read(c.Context())
		if err == nil {
			err = errors.Join(checkMaxLateness(*maxLateness), checkMaxSilence(*maxSilence))
		}
		if err == nil && *export == "" && *from.URLFile == "" {
			err = given.addPublished(*from.Config)
		}
		if err != nil {
			return cli.Invalid(err)
		}
		given.trust.MaxLateness, given.trust.MaxSilence = *maxLateness, *maxSilence
		p := cli.NewProgress(c.ErrOrStderr(), *quiet)
		var report *audit.Report
		if *export != "" {
			report, err = verifyExport(c, *export, given.trust, p)
		} else {
			given.now = time.Now()
			report, err = verifyDatabase(c.Context(), from, given.trust, p)
		}
		if err != nil {
			return err
		}
		if asJSON() {
			return printVerifyJSON(c.OutOrStdout(), report, given)
		}
		return printReport(c.OutOrStdout(), report, given, time.Since(p.Began))
	}
	return c
}

func verifyExport(c *cobra.Command, path string, trust audit.Trust, p *cli.Progress) (*audit.Report, error) {
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	in := c.InOrStdin()
	if path != "-" {
		file, err := cli.OpenStream(c.Context(), path)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("--export %w", err))
		}
		defer file.Close()
		in = file
	}
	stream := cli.Interruptible(c.Context(), in)
	defer stream.Close()
	in = stream
	if err := v.ReadExport(in, p.Show); err != nil {
		return nil, cli.Invalid(fmt.Errorf("--export %s: %w", path, err))
	}
	return v.Report(), nil
}

func verifyDatabase(ctx context.Context, from auditdb.Flags, trust audit.Trust, p *cli.Progress) (*audit.Report, error) {
	v, err := audit.NewVerification(trust)
	if err != nil {
		return nil, err
	}
	url, done, err := from.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := auditreader.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p.Total = r.Leaves()
	relied := auditreader.NewRelied(v)
	if err := r.Walk(ctx, relied, p.Show); err != nil {
		return nil, err
	}
	report := v.Report()
	return report, verifyBesides(ctx, r, relied, v, report)
}

// verifyBesides adds to a report what is wrong with the tables that evidence relies
// on beside the events, and how the schema differs from what this version installs.
func verifyBesides(ctx context.Context, r *auditreader.Reader, relied *auditreader.Relied, v *audit.Verification, report *audit.Report) error {
	found, warnings, err := r.CheckRelied(ctx, relied, v.ShowsKey)
	if err != nil {
		return err
	}
	report.Add(found...)
	schema, err := r.Schema(ctx)
	if err != nil {
		return err
	}
	report.Warnings = append(append(report.Warnings, warnings...), schemaWarnings(schema)...)
	return nil
}

// schemaWarnings names each object that is not as installed. It is not damage: what
// was done to the events is found by itself.
func schemaWarnings(s auditpg.Schema) []string {
	if s.Expected == nil {
		return []string{fmt.Sprintf("schema: version %d on PostgreSQL %d is not known to this program, so its triggers, functions and privileges are not compared", s.Version, s.Server)}
	}
	var list []string
	for i, d := range s.Differences() {
		if i == shownFindings {
			return append(list, "schema: and more; the event schema_attested and /readyz name them")
		}
		list = append(list, "schema: not as this version installs it: "+d)
	}
	return list
}
