package webhookcmd

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/webhook"
)

const (
	maxListed     = 1000 // deliveries of one listing, as the queue allows
	defaultListed = 100
)

// listFlags are the flags that select deliveries.
type listFlags struct {
	filter       webhook.DeliveryFilter
	since, until string
}

func (l *listFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.filter.Receiver, "receiver", "", "only deliveries of the receiver `NAME`")
	f.StringVar(&l.filter.Endpoint, "endpoint", "", "only deliveries for the endpoint `NAME`")
	f.StringVar(&l.filter.Repository, "repository", "", "only deliveries of the repository `UUID`, on Data Center PROJECT/NAME")
	f.StringVar(&l.since, "since", "", "only deliveries received since `TIME`: 12h or 30d ago, a date, or RFC 3339")
	f.StringVar(&l.until, "until", "", "only deliveries received before `TIME`")
	f.IntVar(&l.filter.Limit, "limit", defaultListed, "at most `N` deliveries, from 1 to 1000; the latest come first")
}

// read checks the flags and returns the filter.
func (l *listFlags) read(now time.Time) (webhook.DeliveryFilter, error) {
	f := l.filter
	if f.Limit < 1 || f.Limit > maxListed {
		return f, cli.Invalid(fmt.Errorf("--limit %d is not from 1 to %d", f.Limit, maxListed))
	}
	for _, t := range []struct {
		flag, given string
		into        *time.Time
	}{{"--since", l.since, &f.Since}, {"--until", l.until, &f.Until}} {
		if t.given == "" {
			continue
		}
		at, err := cli.ParseTime(t.given, now)
		if err != nil {
			return f, cli.Invalid(fmt.Errorf("%s: %w", t.flag, err))
		}
		*t.into = at
	}
	return f, nil
}

func newDeliveries() *cobra.Command {
	c := &cobra.Command{
		Use:   "deliveries",
		Short: "List the accepted deliveries in the queue, the latest first",
		Long: `List the accepted deliveries in the queue, the latest first, without their bodies. STATE is
the state of the delivery's tasks, one for each endpoint: dead if one of them was given
up, then pending, leased, and done. A delivery without an endpoint has no task.

The queue keeps deliveries for 30 days, or for webhooks.body_max_age if that is longer.
The audit log has all of them: sallyport audit query --kind webhook_received.
` + instanceUsage,
		Args: cli.NoArguments,
	}
	var list listFlags
	list.add(c)
	state := cli.AddChoiceFlag(c, "state", "only deliveries with a task in this state", "", string(webhook.TaskPending), string(webhook.TaskLeased), string(webhook.TaskDone), string(webhook.TaskDead))
	asJSON := cli.AddFormatFlag(c)
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		now := time.Now()
		filter, err := list.read(now)
		if err != nil {
			return err
		}
		filter.State = webhook.TaskState(state.Value)
		found, err := client.Deliveries(c.Context(), filter)
		if err != nil {
			return err
		}
		if asJSON() {
			return cli.PrintJSON(c.OutOrStdout(), found)
		}
		noteNone(c, filter, len(found))
		return printDeliveries(c.OutOrStdout(), found, now)
	})
}

// printDeliveries prints a table of at most 100 columns.
func printDeliveries(w io.Writer, list []webhook.StoredDelivery, now time.Time) error {
	return cli.PrintTable(w, "DELIVERY\tAGE\tRECEIVER\tEVENT\tSTATE", func(row func(string, ...any)) {
		for _, d := range list {
			row("%s\t%s\t%s\t%s\t%s", d.ID, age(now, d.Received), shortened(d.Receiver, 14), shortened(d.Event, 24), stateText(d.Tasks))
		}
	})
}

func newDeadLetters() *cobra.Command {
	c := &cobra.Command{
		Use:   "dead-letters",
		Short: "List the deliveries that were given up for an endpoint",
		Long: `List the deliveries that were given up for an endpoint: it rejected them, answered 410, or
did not accept them within retry_for. AGE is the time since then. "webhook show" has the
whole error, and "webhook replay" sends a delivery again.
` + instanceUsage,
		Args: cli.NoArguments,
	}
	var list listFlags
	list.add(c)
	asJSON := cli.AddFormatFlag(c)
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		now := time.Now()
		filter, err := list.read(now)
		if err != nil {
			return err
		}
		filter.State = webhook.TaskDead
		found, err := client.Deliveries(c.Context(), filter)
		if err != nil {
			return err
		}
		if asJSON() {
			return cli.PrintJSON(c.OutOrStdout(), found)
		}
		noteNone(c, filter, len(found))
		return printDeadLetters(c.OutOrStdout(), found, filter.Endpoint, now)
	})
}

// printDeadLetters prints one row for each dead task, of one endpoint if that is given.
func printDeadLetters(w io.Writer, list []webhook.StoredDelivery, endpoint string, now time.Time) error {
	return cli.PrintTable(w, "DELIVERY\tENDPOINT\tAGE\tATTEMPTS\tERROR", func(row func(string, ...any)) {
		for _, d := range list {
			for _, t := range d.Tasks {
				if t.State == webhook.TaskDead && (endpoint == "" || t.Endpoint == endpoint) {
					row("%s\t%s\t%s\t%s\t%s", d.ID, shortened(t.Endpoint, 14), age(now, finished(t)), strconv.Itoa(t.Attempts), ending(clean(t.LastError), 28))
				}
			}
		}
	})
}

func finished(t webhook.StoredTask) time.Time {
	if t.Finished == nil {
		return t.Created
	}
	return *t.Finished
}

// stateText sums up the states of a delivery's tasks: the one that needs most attention, and
// of how many tasks.
func stateText(tasks []webhook.StoredTask) string {
	for _, state := range []webhook.TaskState{webhook.TaskDead, webhook.TaskPending, webhook.TaskLeased, webhook.TaskDone} {
		n := 0
		for _, t := range tasks {
			if t.State == state {
				n++
			}
		}
		switch {
		case n == 0:
		case len(tasks) == 1:
			return string(state)
		default:
			return fmt.Sprintf("%s %d/%d", state, n, len(tasks))
		}
	}
	return "-"
}

// age is a time span of at most four characters, or a number of days.
func age(now, then time.Time) string {
	d := max(0, now.Sub(then))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// ending is a text, or its last columns characters: the cause is at the end of an error.
func ending(text string, columns int) string {
	if r := []rune(text); len(r) > columns {
		return "…" + string(r[len(r)-columns+1:])
	}
	return text
}

// noteNone explains an empty list on standard error: a misspelled name selects nothing.
func noteNone(c *cobra.Command, filter webhook.DeliveryFilter, found int) {
	if found > 0 {
		return
	}
	note := "no delivery matches"
	if filter.Receiver+filter.Endpoint != "" {
		note += "; `sallyport webhook list` shows the names of the configuration"
	}
	if strings.Contains(filter.Repository, "/") {
		note += "; Bitbucket Cloud's repositories are selected by UUID, as `sallyport webhook show` prints it"
	}
	_, _ = fmt.Fprintln(c.ErrOrStderr(), note)
}

// shortened cuts a text to so many characters.
func shortened(text string, columns int) string {
	if r := []rune(text); len(r) > columns {
		return string(r[:columns-1]) + "…"
	}
	return text
}
