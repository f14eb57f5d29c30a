package verifycmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
)

// addMaxLateness adds the flag that bounds lateness.
func addMaxLateness(c *cobra.Command) *time.Duration {
	return c.Flags().Duration("max-lateness", audit.DefaultMaxLateness, "list events that were sealed longer than this after their own time, in whole minutes")
}

// checkMaxLateness refuses a bound that would list everything, or be cut to nothing.
func checkMaxLateness(d time.Duration) error {
	if d < time.Minute || d%time.Minute != 0 {
		return fmt.Errorf("--max-lateness: %s is not a whole number of minutes above 0: write 2h or 90m", d)
	}
	return nil
}

// printLateness prints which events were sealed late. They are not damage.
func printLateness(b *strings.Builder, l audit.Lateness) {
	line := func(name, format string, a ...any) {
		fmt.Fprintf(b, "%-14s"+format+"\n", append([]any{name}, a...)...)
	}
	list := func(events []audit.LateEvents) {
		for i, e := range events {
			if i == shownFindings {
				line("", "and more")
				break
			}
			line("", "- %s", e)
		}
	}
	if l.Count > 0 {
		line("late", "%d events were sealed more than %s after their own time, the latest by %s; replayed journals explain %d:", l.Count, audit.FormatDuration(l.Bound), audit.FormatDuration(l.Max), l.Explained)
		list(l.Events)
	}
	if l.Ahead > 0 {
		line("ahead", "%d events are dated more than %s after the checkpoint that covers them, by up to %s:", l.Ahead, audit.FormatDuration(audit.MaxClockSkew), audit.FormatDuration(l.MaxAhead))
		list(l.AheadOf)
	}
}
