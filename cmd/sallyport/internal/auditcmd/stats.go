package auditcmd

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/printable"
)

func newStats() *cobra.Command {
	c := &cobra.Command{
		Use:   "stats",
		Short: "Count the events of a period, and report the size of the log",
		Long: `Count the events of a period: how decisions came out and why, by day, by repository
and deployment environment, and the destinations that were most asked for, with
the bytes that went there; where tunnels went that only report mode let continue;
who wrote, and whether a number is missing; how much of the whole log is sealed, and
what it takes on the disk. Bytes are those of the tunnels and requests that ended in
the period. The probes of the self-test are counted separately.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	since := c.Flags().String("since", "30d", "from when on: `30d` or 12h ago, 2026-11-21, or 2026-11-21T08:40:00Z")
	until := c.Flags().String("until", "now", "before when, written in the same way")
	top := c.Flags().Int("top", 20, "list the `N` destinations that were most asked for")
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		now := time.Now()
		begin, err := cli.ParseTime(*since, now)
		if err != nil {
			return cli.Invalid(fmt.Errorf("--since: %w", err))
		}
		end, err := cli.ParseTime(*until, now)
		if err != nil {
			return cli.Invalid(fmt.Errorf("--until: %w", err))
		}
		if !begin.Before(end) || *top < 0 {
			return cli.Invalid(fmt.Errorf("--since %s is not before --until %s, or --top is below 0", *since, *until))
		}
		return cli.UntilBrokenPipe(func() error {
			url, done, err := from.Open(c.Context())
			if err != nil {
				return err
			}
			defer done()
			querier, err := auditreader.OpenQuerier(c.Context(), url)
			if err != nil {
				return err
			}
			defer querier.Close()
			totals, err := querier.Totals(c.Context(), begin, end, *top)
			if err != nil {
				return err
			}
			if asJSON() {
				return cli.PrintJSON(c.OutOrStdout(), totals)
			}
			return printTotals(c.OutOrStdout(), totals)
		})
	}
	return c
}

// printTotals writes one table after another.
func printTotals(out io.Writer, s *auditreader.Totals) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "from %s to %s: %s, %s\n", cli.FormatTime(s.Since), cli.FormatTime(s.Until), printable.Count(s.Events, "event"), printable.Count(s.Decided.Decisions(), "decision"))
	fmt.Fprintf(w, "allowed %d, allowed only in report mode %d, denied %d; %d bytes sent, %d received\n",
		s.Decided.Allowed, s.Decided.WouldDeny, s.Decided.Denied, s.Decided.BytesSent, s.Decided.BytesReceived)
	if s.Repeated > 0 {
		fmt.Fprintf(w, "besides, %d refusals that repeat a recorded one: they have its decision id and no event of their own\n", s.Repeated)
	}
	if s.WouldClose > 0 {
		fmt.Fprintf(w, "report mode let %d tunnels continue that enforce mode closes for their first bytes\n", s.WouldClose)
	}
	if probes := s.SelfTest; probes.Decisions() > 0 {
		fmt.Fprintf(w, "besides, %d decisions about the proxy's own self-tests, in no count of decisions here: %d allowed, %d allowed only in report mode, %d denied\n",
			probes.Decisions(), probes.Allowed, probes.WouldDeny, probes.Denied)
	}
	section := func(title string, head []string, rows [][]string) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		t := &streamedTable{w: w, head: head}
		for _, row := range rows {
			_ = t.row(row) // w keeps its error
		}
		_ = t.close()
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	tally := func(t auditreader.Counts, before ...string) []string {
		return append(before, n(t.Decisions()), n(t.WouldDeny), n(t.Denied), n(t.BytesSent), n(t.BytesReceived))
	}
	counted := func(names ...string) []string {
		return append(names, "decisions", "would_deny", "denied", "bytes_sent", "bytes_received")
	}
	section("how decisions came out", []string{"verdict", "reason", "decisions"}, rowsOf(s.Reasons, func(r auditreader.ReasonCount) []string {
		verdict := r.Verdict
		if r.WouldDeny {
			verdict += " (report mode only)"
		}
		return []string{verdict, r.Reason, n(r.Decisions)}
	}))
	section("by day", counted("day", "events"), rowsOf(s.Days, func(d auditreader.Day) []string { return tally(d.Counts, d.Day, n(d.Events)) }))
	section("by repository and deployment", counted("repository", "deployment"), rowsOf(s.Repositories, func(o auditreader.Origin) []string {
		return tally(o.Counts, cmp.Or(o.Repository, o.RepositoryUUID), cmp.Or(o.Deployment, o.DeploymentUUID))
	}))
	section(fmt.Sprintf("destinations, %d of %d", len(s.Destinations), s.Hosts), counted("host", "port"), rowsOf(s.Destinations, func(d auditreader.Destination) []string {
		return tally(d.Counts, d.Host, n(d.Port))
	}))
	section(fmt.Sprintf("tunnels that enforce mode closes, %d of %d targets", len(s.Continued), s.ContinuedTotal), []string{"repository", "host", "port", "close_reason", "tunnels"}, rowsOf(s.Continued, func(c auditreader.Continued) []string {
		return []string{cmp.Or(c.Repository, c.RepositoryUUID), c.Host, n(c.Port), c.CloseReason, n(c.Tunnels)}
	}))
	section("kinds of events", []string{"kind", "events"}, rowsOf(s.Kinds, func(k auditreader.KindCount) []string { return []string{k.Kind, n(k.Events)} }))
	section("who wrote", []string{"writer", "started", "ended", "last_event", "events", "missing"}, rowsOf(s.Writers, func(w auditreader.Writer) []string {
		return []string{w.Writer, momentOf(w.StartedAt), momentOf(w.EndedAt), cli.FormatTime(w.LastEvent), n(w.Events), n(w.Missing)}
	}))
	section("on the disk", []string{"table", "bytes"}, rowsOf(s.Tables, func(t auditreader.Table) []string { return []string{t.Name, n(t.Bytes)} }))
	fmt.Fprintf(w, "\nof the whole log %d events are sealed, %d are not", s.Sealing.Sealed, s.Sealing.Unsealed)
	if s.Sealing.Checkpoint != nil {
		fmt.Fprintf(w, "; the latest checkpoint is of %s", cli.FormatTime(*s.Sealing.Checkpoint))
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func rowsOf[T any](list []T, row func(T) []string) [][]string {
	rows := make([][]string, len(list))
	for i, v := range list {
		rows[i] = row(v)
	}
	return rows
}

func momentOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return cli.FormatTime(*t)
}
