package auditcmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

func newTail() *cobra.Command {
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show the latest events of the audit log, and then new ones",
		Long: `Show the newest events of the audit log that match the filters, and then each that
becomes visible, once.

  sallyport audit tail --verdict deny
  sallyport audit tail --since 1h --repository acme/payments --format json

What comes is in the order in which it becomes visible: what is new at one look,
every second, is in the order of its time, and events from a server's journal
appear when they are written, with the time at which it
happened. While the database is unavailable the command retries, and no event is lost.

An interruption ends it with status 0.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	filters := addFilterFlags(c, from, "")
	lines := c.Flags().Int64P("lines", "n", 10, "begin with the newest `N` events; with --since, with all since then")
	format := cli.AddFormatFlag(c)
	interval := c.Flags().Duration("interval", time.Second, "how often to look")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := filters.filter(time.Now())
		if err == nil {
			err = checkLimit(*lines)
		}
		if err == nil && *interval < 10*time.Millisecond {
			err = fmt.Errorf("--interval %s: want at least 10ms", *interval)
		}
		if err != nil {
			return cli.Invalid(fmt.Errorf("%w\nsee: %s --help", err, c.CommandPath()))
		}
		q.Limit = *lines
		if !q.Since.IsZero() && !c.Flags().Changed("lines") {
			q.Limit = 0
		}
		t := &tail{filter: q, interval: *interval, asJSON: format(), messages: c.ErrOrStderr()}
		return cli.UntilBrokenPipe(func() error { return t.run(c, from) })
	}
	return c
}

// tail shows what comes.
type tail struct {
	filter   *auditreader.Filter
	interval time.Duration
	asJSON   bool
	messages io.Writer

	tail  *auditreader.Tail
	begun bool
	w     *bufio.Writer
	write func(event) error
}

func (t *tail) run(c *cobra.Command, from auditdb.Flags) error {
	url, done, err := from.Open(c.Context())
	if err != nil {
		return err
	}
	defer done()
	t.tail, t.w = auditreader.NewTail(), bufio.NewWriter(c.OutOrStdout())
	if t.asJSON {
		t.write = newRowWriter("json", t.w, nil).json
	} else {
		t.write = t.text
	}
	return persist(c.Context(), url, t.messages, t.follow)
}

// follow gives what there is and what comes, until something goes wrong.
func (t *tail) follow(ctx context.Context, querier *auditreader.Querier) error {
	row := func(r auditreader.Row) error { return t.write(r) }
	if !t.begun {
		if err := t.tail.Begin(ctx, querier, t.filter, row); err != nil {
			return err
		}
		t.begun = true
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for {
		more, err := t.tail.Poll(ctx, querier, t.filter, row)
		if err := errors.Join(err, t.w.Flush()); err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// persist runs work on a connection, and on another one when that is lost. The
// first has to come about at once. It is nil where the context has ended.
func persist(ctx context.Context, url string, messages io.Writer, work func(context.Context, *auditreader.Querier) error) error {
	const pause = time.Second
	connected, lost := false, false
	for {
		querier, err := auditreader.OpenQuerier(ctx, url)
		if err == nil {
			connected = true
			if lost {
				fmt.Fprintln(messages, "the database is back")
			}
			lost = false
			err = work(ctx, querier)
			querier.Close()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !connected || !auditreader.IsLost(err):
			return err
		case !lost:
			lost = true
			fmt.Fprintf(messages, "the database is unavailable, retrying: %v\n", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// text writes an event on one line.
func (t *tail) text(e event) error {
	values := map[string]string{}
	for i := range e.Len() {
		values[e.Name(i)] = audit.Text(e.Text(i), math.MaxInt)
	}
	to := values["host"]
	if to != "" {
		to = net.JoinHostPort(to, values["port"])
	}
	parts := []string{values["time"], values["kind"]}
	for _, part := range []string{
		values["verdict"], wouldDeny(values["would_deny"]), values["reason"], values["close_reason"],
		cmp.Or(values["repository"], values["repository_uuid"]), cmp.Or(values["deployment"], values["deployment_uuid"]),
		values["action"], values["method"], to, prefixed("rule=", values["rule"]), prefixed("bytes_sent=", values["bytes_sent"]), prefixed("bytes_received=", values["bytes_received"]),
		prefixed("id=", values["decision_id"]),
	} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	_, err := t.w.WriteString(strings.Join(parts, " ") + "\n")
	return err
}

func wouldDeny(value string) string {
	if value == "true" {
		return "would-deny"
	}
	return ""
}

func prefixed(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + value
}
