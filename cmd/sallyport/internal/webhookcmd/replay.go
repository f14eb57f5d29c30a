package webhookcmd

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/printable"
)

func newShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show DELIVERY",
		Short: "Show an accepted delivery and its tasks, or its body",
		Long: `Show an accepted delivery: its header fields, and for each endpoint the state, the attempts
and the last error. DELIVERY is the id of "webhook deliveries", which is decision_id in the
audit log.

With --body, only the body is printed. On a terminal, control characters are escaped;
--raw prints the bytes as they were received, as a file and a pipe always get them. With
--format json, the body is the field body in base64. Bodies hold names and e-mail
addresses: the audit log records who read one, and an auditor's login cannot read them.
A body that is older than webhooks.body_max_age was deleted.
` + instanceUsage,
		Args: someDeliveries(1),
	}
	body := c.Flags().Bool("body", false, "print the body, and record that")
	raw := c.Flags().Bool("raw", false, "with --body: print the received bytes on a terminal too; they may control it")
	reason := c.Flags().String("reason", "", "the operator's reason to read the body, as `TEXT` for the audit log")
	asJSON := cli.AddFormatFlag(c)
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, args []string) error {
		if *reason != "" && !*body {
			return cli.Invalid(errors.New("--reason is recorded with --body only"))
		}
		if *raw && (!*body || asJSON()) {
			return cli.Invalid(errors.New("--raw is for the body as text: give it with --body, without --format json"))
		}
		shown, err := client.ShowDelivery(c.Context(), admin.ShowDelivery{ID: args[0], Body: *body, Reason: *reason})
		if err != nil {
			return err
		}
		switch {
		case asJSON():
			return cli.PrintJSON(c.OutOrStdout(), shown)
		case *body:
			return writeBody(c.OutOrStdout(), shown.Body, *raw)
		}
		_, err = fmt.Fprint(c.OutOrStdout(), deliveryText(&shown))
		return err
	})
}

// writeBody writes the received bytes, unless they go to a terminal: their sender must
// not control it.
func writeBody(w io.Writer, body []byte, raw bool) error {
	if f, ok := w.(*os.File); ok && !raw && cli.IsTerminal(f) {
		_, err := io.WriteString(w, printable.Lines(string(body))+"\n")
		return err
	}
	_, err := w.Write(body)
	return err
}

// deliveryText describes a delivery for people.
func deliveryText(d *admin.ShownDelivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "delivery %s\n", d.ID)
	line := cli.FieldLines(&b)
	line("received", cli.FormatTime(d.Received))
	line("receiver", d.Receiver+", "+d.Kind)
	line("event", clean(d.Event))
	line("repository", clean(d.Repository))
	if d.Client.IsValid() {
		line("client", d.Client.String())
	}
	if d.Attempt > 0 {
		line("attempt", strconv.Itoa(d.Attempt)+" of Bitbucket")
	}
	line("digest", "sha256:"+d.Digest)
	if d.BodyBytes == 0 {
		line("body", "deleted: it is older than webhooks.body_max_age")
	} else {
		line("body", printable.Count(d.BodyBytes, "byte")+", shown with --body")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Header)) {
		for _, value := range d.Header[name] {
			line("header", clean(name+": "+value))
		}
	}
	if len(d.Tasks) == 0 {
		line("tasks", "none")
	}
	for _, t := range d.Tasks {
		fmt.Fprintf(&b, "\n%s to %s\n", t.Action, t.Endpoint)
		line("state", string(t.State))
		line("attempts", strconv.Itoa(t.Attempts))
		line("created", cli.FormatTime(t.Created))
		if t.NotBefore != nil {
			line("next attempt", cli.FormatTime(*t.NotBefore))
		}
		if t.Finished != nil {
			line("finished", cli.FormatTime(*t.Finished))
		}
		line("last error", clean(t.LastError))
	}
	return b.String()
}

// clean makes text from outside fit for a terminal.
func clean(text string) string {
	if printable.IsClean(text) {
		return text
	}
	return printable.Quote(text)
}

func newReplay() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay DELIVERY... --reason TEXT",
		Short: "Send accepted deliveries to an endpoint again",
		Long: `Send accepted deliveries to an endpoint again, in the order of the arguments, behind the
deliveries of the same repository that wait. The endpoint recognizes the repeat by the
same Sallyport-Delivery. A delivery that is older than the endpoint's retry_for is
attempted once. One whose body was deleted (webhooks.body_max_age) cannot be replayed:
send it again in Bitbucket.

Every argument is checked by itself; the command stops at the first that fails.
` + instanceUsage,
		Args: someDeliveries(100),
	}
	endpoint := c.Flags().String("endpoint", "", "the `NAME` of the endpoint (default: the only one that the delivery had)")
	reason := c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
	asJSON := cli.AddFormatFlag(c)
	return withInstance(c, func(c *cobra.Command, client *admin.ControlClient, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return cli.Invalid(fmt.Errorf("--reason TEXT is needed: it is recorded in the audit log\nsee: %s --help", c.CommandPath()))
		}
		replayed := []admin.ReplayedDelivery{}
		var failed error
		for _, id := range args {
			r, err := client.ReplayDelivery(c.Context(), admin.ReplayDelivery{ID: id, Endpoint: *endpoint, Reason: *reason})
			if err != nil {
				failed = err
				break
			}
			replayed = append(replayed, r)
			if !asJSON() {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "delivery %s is sent to %s again\n", r.ID, r.Endpoint); err != nil {
					return err
				}
			}
		}
		if asJSON() {
			if err := cli.PrintJSON(c.OutOrStdout(), replayed); err != nil {
				return err
			}
		}
		return failed
	})
}

// someDeliveries accepts the ids of at most n deliveries as arguments.
func someDeliveries(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < 1 || len(args) > n {
			return cli.Invalid(fmt.Errorf("name %s by id: see `sallyport webhook deliveries`\nsee: %s --help", map[bool]string{true: "one delivery", false: fmt.Sprintf("1 to %d deliveries", n)}[n == 1], c.CommandPath()))
		}
		return nil
	}
}
