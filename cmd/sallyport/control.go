package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/admin"
)

// controlUsage ends the help of every command that speaks to a running instance.
const controlUsage = `
It speaks to the instance that runs on this machine with the configuration's
data_directory, through the control socket there, which is open to root and to
the user that the instance runs as. Who did what is in the audit log, as an
event of kind admin.`

// controlled makes a command that speaks to a running instance.
func controlled(c *cobra.Command, do func(*cobra.Command, *admin.ControlClient, []string) error) *cobra.Command {
	path := addConfigFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, _, err := loadConfig(*path)
		if err != nil {
			return err
		}
		err = do(c, admin.NewControlClient(cfg.DataDirectory), args)
		if m, ok := errors.AsType[*admin.Mistake](err); ok {
			return invalid{m}
		}
		return err
	}
	return c
}

func addReasonFlag(c *cobra.Command) *string {
	return c.Flags().String("reason", "", "the operator's reason, as `TEXT` for the audit log")
}

// checkReason is for what ends the work of others: who reads the log later has to
// learn why.
func checkReason(c *cobra.Command, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return invalid{fmt.Errorf("--reason TEXT is needed: it is recorded in the audit log\nsee: %s --help", c.CommandPath())}
	}
	return nil
}

// printJSON writes a value as people and programs can read it.
func printJSON(w io.Writer, value any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// printTable writes rows under a head.
func printTable(w io.Writer, head string, rows func(row func(format string, args ...any))) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, head)
	rows(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
	return t.Flush()
}

// moment is a time as tables show it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func newPolicyReload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have a running instance look at its policy now",
		Long: `Have a running instance look at its policy at once. If the new
policy is rejected, the active revision stays in force.
` + controlUsage,
		Args: noArguments,
	}
	return controlled(c, func(c *cobra.Command, client *admin.ControlClient, _ []string) error {
		state, err := client.ReloadPolicy(c.Context())
		if err != nil {
			return err
		}
		change := "as before"
		if state.Changed {
			change = "new"
		}
		fmt.Fprintf(c.OutOrStdout(), "%s decides, %s\n", state.Revision, change)
		if state.NotTaken != "" {
			return fmt.Errorf("the policy as it stands was not taken:\n%s", state.NotTaken)
		}
		return nil
	})
}

// isTerminal reports whether somebody would have to type.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
