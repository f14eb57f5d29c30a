package auditcmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

func newRetention() *cobra.Command {
	c := &cobra.Command{
		Use:   "retention",
		Short: "Remove the events of old months from the audit log",
		Long: `Remove the events of old months from the audit log: of each month that ended and was
sealed longer ago than --keep, and that no hold keeps. Decisions and their ends are
removed. The log's own events stay (writers, keys, policies, operators' actions,
exports, holds and retention), and so do the leaves: an event of kind retention has
what was removed, and sallyport audit verify proves the rest. Checkpoints older than
a week are thinned out to the first and the last of each hour.

It uses the login of audit.migration_url_file; the server's logins may not do this.
The database rejects less than 366 days for every login. Run it once a month, from
a timer; docs/operations.md has one.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddOwnerFlags(c)
	keep := c.Flags().String("keep", strconv.Itoa(audit.DefaultKeepDays)+"d", "how long events are kept, in `DAYS`: 366d or more")
	dry := c.Flags().Bool("dry-run", false, "print what would be removed, and remove nothing")
	c.RunE = func(c *cobra.Command, _ []string) error {
		days, err := parseDays(*keep)
		if err != nil {
			return cli.Invalid(fmt.Errorf("--keep: %w", err))
		}
		return from.Use(c.Context(), func(r *auditsealer.Retention) error {
			return expireAll(c, r, days, *dry)
		})
	}
	return c
}

// parseDays reads 400d, or 400.
func parseDays(text string) (int, error) {
	days, err := strconv.Atoi(strings.TrimSuffix(text, "d"))
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of days, such as 400d", text)
	}
	if days < audit.MinKeepDays {
		return 0, fmt.Errorf("events are kept for %d days at least, and not for %d", audit.MinKeepDays, days)
	}
	return days, nil
}

func expireAll(c *cobra.Command, r *auditsealer.Retention, days int, dry bool) error {
	months, err := r.Months(c.Context(), days)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	due := 0
	for _, m := range months {
		name := m.Month.Format("2006-01")
		switch {
		case m.Refusal != "":
			due++
			fmt.Fprintf(out, "%s  stays: %s\n", name, m.Refusal)
		case m.Removed == 0: // taken before
		case dry:
			due++
			fmt.Fprintf(out, "%s  would be removed: %d of %d events, sealed by %s\n", name, m.Removed, m.Events, cli.FormatTimeOrNever(m.SealedBy))
		default:
			due++
			number, err := r.Expire(c.Context(), m.Month, days)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s  removed: %d of %d events, by event %d of writer %s\n", name, m.Removed, m.Events, number, audit.DatabaseWriter)
		}
	}
	thinned, err := r.ThinCheckpoints(c.Context(), dry)
	if err != nil {
		return err
	}
	if thinned > 0 {
		fmt.Fprintf(out, "checkpoints older than %s: %d %s, the first and the last of each hour stay\n", "7 days", thinned, map[bool]string{true: "would be removed", false: "removed"}[dry])
	}
	if due == 0 {
		fmt.Fprintf(out, "no month ended more than %d days ago with events to remove\n", days)
	}
	return nil
}

func newHold() *cobra.Command {
	parent := &cobra.Command{
		Use:   "hold",
		Short: "Hold months of the audit log, so that retention keeps them",
		Long: `Hold months of the audit log, so that retention keeps them, whatever their age, until the hold is
lifted: for a lawsuit, or an audit that takes long. Setting and lifting one are
events of the log. An auditor's login may set a hold; to lift one is for the login
of audit.migration_url_file.`,
		Args: cli.NoArguments, RunE: cli.Help,
	}
	parent.AddCommand(newHoldSet(), newHoldLift(), newHoldList())
	return parent
}

func newHoldSet() *cobra.Command {
	c := &cobra.Command{Use: "set", Short: "Set a hold", Args: cli.NoArguments}
	from := auditdb.AddOwnerFlags(c)
	first := c.Flags().String("since", "", "the first `MONTH` to keep, such as 2026-01")
	last := c.Flags().String("until", "", "the last `MONTH` to keep (default: that of --since)")
	reason := c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		begin, err := time.Parse("2006-01", *first)
		if err != nil {
			return cli.Invalid(fmt.Errorf("--since %q: want a month such as 2026-01", *first))
		}
		end := begin
		if *last != "" {
			if end, err = time.Parse("2006-01", *last); err != nil || end.Before(begin) {
				return cli.Invalid(fmt.Errorf("--until %s: want a month such as 2026-03, and not before that of --since", *last))
			}
		}
		if *reason == "" {
			return cli.Invalid(errors.New("--reason TEXT is needed"))
		}
		return from.Use(c.Context(), func(r *auditsealer.Retention) error {
			number, err := r.SetHold(c.Context(), begin, end.AddDate(0, 1, -1), *reason)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "hold %d keeps %s to %s\n", number, begin.Format("2006-01"), end.Format("2006-01"))
			return err
		})
	}
	return c
}

func newHoldLift() *cobra.Command {
	c := &cobra.Command{Use: "lift NUMBER", Short: "Lift a hold", Args: func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.Invalid(fmt.Errorf("one number of a hold is needed; sallyport audit hold list has them\nsee: %s --help", c.CommandPath()))
		}
		return nil
	}}
	from := auditdb.AddOwnerFlags(c)
	reason := c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
	c.RunE = func(c *cobra.Command, args []string) error {
		number, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return cli.Invalid(fmt.Errorf("%q is not the number of a hold; sallyport audit hold list has them", args[0]))
		}
		if *reason == "" {
			return cli.Invalid(errors.New("--reason TEXT is needed"))
		}
		return from.Use(c.Context(), func(r *auditsealer.Retention) error {
			if err := r.LiftHold(c.Context(), number, *reason); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "hold %d is lifted\n", number)
			return err
		})
	}
	return c
}

func newHoldList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List all holds, including lifted ones", Args: cli.NoArguments}
	from := auditdb.AddOwnerFlags(c)
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return from.Use(c.Context(), func(r *auditsealer.Retention) error {
			holds, err := r.Holds(c.Context())
			if err != nil {
				return err
			}
			if asJSON() {
				list := make([]holdJSON, 0, len(holds))
				for _, h := range holds {
					list = append(list, newHoldJSON(h))
				}
				return cli.PrintJSON(c.OutOrStdout(), list)
			}
			for _, h := range holds {
				fmt.Fprintf(c.OutOrStdout(), "%d  %s to %s, set %s by %s: %s\n", h.Number, h.FirstDay.Format("2006-01"), h.LastDay.Format("2006-01"),
					cli.FormatTimeOrNever(h.SetAt), audit.Text(h.SetBy, 200), audit.Text(h.Reason, 2048))
				if !h.LiftedAt.IsZero() {
					fmt.Fprintf(c.OutOrStdout(), "   lifted %s by %s: %s\n", cli.FormatTimeOrNever(h.LiftedAt), audit.Text(h.LiftedBy, 200), audit.Text(h.LiftedBecause, 2048))
				}
			}
			return nil
		})
	}
	return c
}
